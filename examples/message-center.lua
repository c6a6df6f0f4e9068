-- The message center as a Lua handler: users log in by a token that a backend knows, and hear what is published for them.
-- The same without a script, by rules: docs/message-center.md. All that is called here: docs/lua.md.

local mix_log, mix_DEBUG = mix.log, mix.DEBUG
local auth_url = mix.server.option("auth_url") or "http://127.0.0.1:8000/websocket_auth"

local function refuse(conn, code, words)
    conn:send(mix.json_encode({ code = code, msg = words }))
end

local function give_up(conn, words)
    mix_log(mix_DEBUG, words)
    conn:close()
end

local function log_in(conn, token)
    local body = mix.json_encode({ token = token or "" })
    local resp, err = mix.http.request("POST", auth_url, {
        body = body,
        headers = { ["Content-Type"] = "application/json" },
    })
    if err then
        return give_up(conn, "http.request error: " .. err)
    end
    if resp.status_code ~= 200 then
        return give_up(conn, "http.request status_code: " .. resp["status_code"])
    end
    local user, err = mix.json_decode(resp["body"])
    if err or type(user) ~= "table" or user["uid"] == nil then
        return give_up(conn, "the backend says no uid")
    end
    conn:set_context_value("uid", user["uid"])
    conn:send('{"result":true}')
end

function on_message(msg)
    local conn = mix.websocket()
    if msg["type"] ~= "text" then
        conn:close()
        return
    end
    local data, err = mix.json_decode(msg["data"])
    if err or type(data) ~= "table" then
        return give_up(conn, "json_decode error: " .. tostring(err))
    end

    local op = data["op"]
    if op == "auth" then
        return log_in(conn, data["token"])
    end
    if op ~= "subscribe" and op ~= "unsubscribe" then
        return refuse(conn, 3, "Unknown op")
    end

    local uid = conn:context_value("uid")
    if uid == nil then
        return refuse(conn, 1, "Not Auth")
    end
    local channel_table = mix.str_split(data["channel"] or "", "@")
    if table.getn(channel_table) ~= 2 then
        return give_up(conn, "invalid channel: " .. tostring(data["channel"]))
    end
    if channel_table[1] ~= "" or channel_table[2] ~= "user" then
        return refuse(conn, 4, "Invalid channel")
    end

    local channel = "user:" .. uid
    if op == "subscribe" then
        err = conn:subscribe(channel)
    else
        err = conn:unsubscribe(channel)
    end
    if err then
        return give_up(conn, op .. " error: " .. err)
    end
    conn:send('{"result":true}')
end
