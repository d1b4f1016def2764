-- Sixteen requests in one write.
local batch
init = function()
  batch = string.rep(wrk.format("GET"), 16)
end
request = function() return batch end
