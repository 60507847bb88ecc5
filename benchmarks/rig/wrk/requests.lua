-- What wrk sends, and what it says of the answers: one line of JSON.
--
-- Arguments after "--": tokens=FILE first=N count=N path=/ method=GET body=BYTES stop=N expect=N
-- "stop" ends the run after so many requests, before its time is up.
local ffi = require("ffi")
ffi.cdef("int getpid(void); int kill(int pid, int signal);")

local RECORD = 44 -- a token and a line break
local requests, count, sent = {}, 0, 0
local stop
local threads = {}
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local given = { path = "/", method = "GET", body = "0", count = "0", first = "0" }
  for _, arg in ipairs(args) do
    local name, value = arg:match("^(%w+)=(.*)$")
    if name then given[name] = value end
  end
  stop = tonumber(given.stop)
  local size = tonumber(given.body)
  local head = given.method .. " " .. given.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
    .. "\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
  local tail = "\r\n"
  if size > 0 then
    tail = "Content-Type: application/octet-stream\r\nContent-Length: " .. size .. "\r\n\r\n"
      .. string.rep("x", size)
  end
  if given.token then
    requests[0] = head .. "Authorization: Bearer " .. given.token .. "\r\n" .. tail
    count = 1
  elseif given.tokens then
    count = tonumber(given.count)
    local file = assert(io.open(given.tokens, "rb"))
    file:seek("set", tonumber(given.first) * RECORD)
    for number = 0, count - 1 do
      requests[number] = head .. "Authorization: Bearer "
        .. file:read(RECORD):sub(1, RECORD - 1) .. "\r\n" .. tail
    end
    file:close()
  else
    requests[0] = head .. tail
    count = 1
  end
  if given.expect then
    local expected = tonumber(given.expect)
    function response(status)
      if status ~= expected then wrong = wrong + 1 end
    end
  end
end

function request()
  local number = sent
  sent = sent + 1
  if sent == stop then
    wrk.thread:stop()
    ffi.C.kill(ffi.C.getpid(), 2) -- wakes wrk, which sleeps until the time is up
  end
  return requests[number % count]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"microseconds":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,'
      .. '"timeout":%d,"refused":%d,"wrong":%d,"p50":%d,"p99":%d,"max":%d}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write,
    errors.timeout, errors.status, threads[1]:get("wrong"),
    latency:percentile(50), latency:percentile(99), latency.max
  ))
end
