-- A field and a body to look at.
wrk.method = "POST"
wrk.headers["Accept"] = "text/plain"
wrk.body = "a body of some fifty bytes, which the handler reads"
