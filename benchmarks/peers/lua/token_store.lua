-- Tokens by lookup in Redis, cached in a dictionary shared by all workers: what ngx_lua's and
-- lua-resty-redis's documents show, with the client itself (GET, over a pooled cosocket) in
-- twenty lines, because Debian packages none that stands without all of nginx-extras.
local ffi = require("ffi")
local cjson = require("cjson.safe")
ffi.cdef("unsigned char *SHA256(const unsigned char *d, size_t n, unsigned char *md);")

local crypto = ffi.load("crypto")
local digest = ffi.new("unsigned char[32]")
local tokens = ngx.shared.tokens
local REDIS_PORT = tonumber(os.getenv("BENCH_REDIS_PORT"))
local MAX_AGE, NEGATIVE_MAX_AGE = 6 * 3600, 1
local M = {}

local hex = {}
for byte = 0, 255 do hex[byte] = string.format("%02x", byte) end

local function key(token)
  crypto.SHA256(token, #token, digest)
  local parts = {}
  for place = 0, 31 do parts[place + 1] = hex[digest[place]] end
  return "token:" .. table.concat(parts)
end

-- The document of a token as text; nil where there is none; nil and why where Redis failed.
function M.document(token)
  local socket = ngx.socket.tcp()
  socket:settimeouts(5000, 5000, 5000)
  local connected, why = socket:connect("127.0.0.1", REDIS_PORT, { pool_size = 64 })
  if not connected then return nil, why end
  local name = key(token)
  socket:send("*2\r\n$3\r\nGET\r\n$" .. #name .. "\r\n" .. name .. "\r\n")
  local line, failed = socket:receive()
  if not line then return nil, failed end
  local length = tonumber(line:match("^%$(-?%d+)"))
  if not length then return nil, line end
  local document
  if length >= 0 then
    document, failed = socket:receive(length + 2)
    if not document then return nil, failed end
    document = document:sub(1, length)
  end
  socket:setkeepalive(60000, 64)
  return document
end

-- Client, subject and scope of a token as one string, "" if it isn't good, and for how long that
-- may be relied on, in seconds.
local function look_up(token)
  local document, why = M.document(token)
  if why then return nil, why end
  local facts = document and cjson.decode(document)
  local life = facts and facts.active == true and (facts.exp or math.huge) - ngx.time() or 0
  if life <= 0 then return "", NEGATIVE_MAX_AGE end
  return (facts.client_id or "") .. "\t" .. (facts.sub or "") .. "\t" .. (facts.scope or ""),
    math.min(MAX_AGE, life)
end

-- Client, subject and scope as one string; false for a token that isn't good; nil and why where
-- it can't be told. "fresh" asks Redis every time.
function M.facts(token, fresh)
  local known = not fresh and tokens:get(token)
  if not known then
    local life
    known, life = look_up(token)
    if known == nil then return nil, life end
    if not fresh then tokens:set(token, known, life) end
  end
  return known ~= "" and known
end

-- The facts of the request's token, or the answer that refuses it is sent.
function M.authorize(fresh)
  local given = ngx.var.http_authorization
  local token = given and given:sub(1, 7):lower() == "bearer " and given:sub(8)
  if not token then
    ngx.header["WWW-Authenticate"] = 'Bearer realm="gateway"'
    return ngx.exit(401)
  end
  local facts, why = M.facts(token, fresh)
  if why then
    ngx.log(ngx.ERR, why)
    return ngx.exit(503)
  end
  if not facts then
    ngx.header["WWW-Authenticate"] = 'Bearer realm="gateway", error="invalid_token"'
    return ngx.exit(401)
  end
  local client, subject, scope = facts:match("^(.-)\t(.-)\t(.*)$")
  if not (" " .. scope .. " "):find(" read ", 1, true) then return ngx.exit(403) end
  return client, subject, scope
end

return M
