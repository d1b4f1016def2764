-- Sixteen requests in one write.
local batch
init = function(args)
  local one = wrk.format("GET")
  batch = string.rep(one, 16)
end
request = function() return batch end
