"""The resources of the API group as typed Python: names, phases, reasons, specs and statuses. Pure."""
