-- A small JSON body.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"id":42,"name":"sensor-7","on":true,"values":[1.5,2.25,3],"place":{"room":"hall"}}'
