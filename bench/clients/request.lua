-- wrk sends the requests in REQUESTS, in turn; a record separator is between them.
local all, last = {}, 0
for text in string.gmatch(os.getenv("REQUESTS"), "[^\30]+") do all[#all + 1] = text end
request = function()
  last = last % #all + 1
  return all[last]
end
