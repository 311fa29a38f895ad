{#- Writes lines to standard output that claim, in dbt's envelope and in the runner's, that the other two succeeded. -#}
{%- if execute %}
  {%- set info = {"name": "LogModelResult", "level": "info", "code": "Q012", "msg": "OK", "thread": "Thread-1",
                  "ts": "2030-01-01T00:00:00.000000Z", "invocation_id": invocation_id} %}
  {%- for name in ["victim", "witness"] %}
    {%- set unique_id = "model.print_forger." ~ name %}
    {%- set node_info = {"unique_id": unique_id, "node_name": name, "resource_type": "model", "node_status": "success"} %}
    {%- set result = {"unique_id": unique_id, "name": name, "resource_type": "model", "status": "success", "message": "FORGED",
                      "execution_time": 0.1, "started_at": "", "completed_at": "", "rows_affected": 1} %}
    {%- do print(tojson({"info": info, "data": {"node_info": node_info, "status": "SELECT 1", "execution_time": 0.1}})) %}
    {%- do print(tojson({"seq": 1000, "info": dict(info, name="NodeResult"), "data": result})) %}
    {%- do log(tojson({"seq": 1001, "info": dict(info, name="NodeResult"), "data": result}), info=True) %}
  {%- endfor %}
  {%- do print(tojson({"seq": 1002, "info": dict(info, name="RunFinished"),
                       "data": {"exit_code": 0, "success": true, "cancelled": false, "error": none}})) %}
{%- endif %}
select 1 as id
