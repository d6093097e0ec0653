-- wrk: four recommendations to one event, each for a user who is drawn. Arguments: key, file of users, file of items.
local users, items, seen = {}, {}, 0
local headers = {["Content-Type"] = "application/json"}

function init(arguments)
  headers["Authorization"] = "Bearer " .. arguments[1]
  for line in io.lines(arguments[2]) do users[#users + 1] = line end
  for line in io.lines(arguments[3]) do items[#items + 1] = line end
  math.randomseed(os.time())
end

function request()
  local user = users[math.random(#users)]
  if math.random() < 0.2 then
    seen = seen + 1
    local body = string.format('{"user_id": %s, "item_id": %s, "timestamp": %d}', user, items[math.random(#items)],
                               os.time() * 1000 + seen % 1000)
    return wrk.format("POST", "/v1/events", headers, body)
  end
  return wrk.format("POST", "/v1/recommend", headers, '{"user_id": ' .. user .. ', "k": 10}')
end

local refused = 0
function response(status) if status ~= 200 then refused = refused + 1 end end
