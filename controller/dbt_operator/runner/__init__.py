"""The program inside an attempt's pod: drives the image's dbt in-process and prints what happens, one JSON line each.

It runs with the Python of the user's image, so it uses the standard library only and no syntax newer than Python 3.9.
"""
