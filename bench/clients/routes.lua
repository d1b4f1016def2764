-- Ten routes with a parameter, in turn.
local requests, last = {}, 0
init = function()
  for i = 0, 9 do requests[i + 1] = wrk.format("GET", "/r" .. i .. "/item-42") end
end
request = function()
  last = last % 10 + 1
  return requests[last]
end
