-- What scripts find beside the library in Rust: the calls that wait, and words of Lua 5.1 that older scripts use.
local native = ...
local yield, raise, type = coroutine.yield, error, type

-- A call that waits: `begin` notes what for, or says at once that it cannot.
local modules_in_hand = 0
local function begun(waits, ...)
    if waits then return yield() end
    return ...
end
local function waiting(begin)
    return function(...)
        -- Others would get half of it meanwhile.
        if modules_in_hand > 0 then raise("a module cannot wait while it is loaded", 2) end
        return begun(begin(...))
    end
end

-- Who catches errors must not catch the end of the budget.
local pcall_ = pcall
local function checked(...)
    if native.spent() then raise(native.spent_words(), 0) end
    return ...
end
function pcall(f, ...) return checked(pcall_(f, ...)) end
-- A handler that is called while the error is raised by the budget's hook would run without one.
local function handled(handler, ok, ...)
    if ok then return ok, ... end
    return false, handler(...)
end
function xpcall(f, handler, ...) return handled(handler, pcall(f, ...)) end

-- Finalizers run without a budget.
local setmetatable_, rawget_ = setmetatable, rawget
function setmetatable(t, meta)
    if type(meta) == "table" and rawget_(meta, "__gc") ~= nil then
        raise("finalizers (__gc) are not supported", 2)
    end
    return setmetatable_(t, meta)
end

-- Loops inside of the library run without a budget.
local rep, move = string.rep, table.move
function string.rep(s, n, separator)
    if #s == 0 and (separator == nil or #separator == 0) then return "" end
    return rep(s, n, separator)
end
function table.move(a, first, last, to, b)
    if last - first > 1000000 then raise("table.move: more than 1000000 elements", 2) end
    return move(a, first, last, to, b)
end

local load_, loaded, loading, require_ = load, {}, {}, native.require
function load(chunk, name, mode, env)
    if mode ~= nil and mode ~= "t" then return nil, "only text can be loaded" end
    if type(chunk) ~= "string" then return nil, "load: the chunk must be a string" end
    if env ~= nil then return load_(chunk, name, "t", env) end
    return load_(chunk, name, "t")
end
loadstring = load
function require(name)
    if loaded[name] == nil then
        local text, chunk_name = require_(name)
        if text == nil then raise(chunk_name, 2) end
        local chunk, problem = load_(text, chunk_name, "t")
        if chunk == nil then raise(problem, 0) end
        if loading[name] then raise("module \"" .. name .. "\" requires itself", 2) end
        loading[name], modules_in_hand = true, modules_in_hand + 1
        local ok, result = pcall_(chunk, name)
        loading[name], modules_in_hand = nil, modules_in_hand - 1
        -- What failed is tried again the next time.
        if not ok then raise(result, 0) end
        if result == nil then result = true end
        loaded[name] = result
    end
    return loaded[name]
end

unpack = table.unpack
table.getn = function(t) return #t end
math.pow = function(x, y) return x ^ y end

local conn = {}
conn.__index, conn.__metatable, conn.__name = conn, false, "connection"
function conn:client_id() return self.id end
conn.remote_addr = native.remote_addr
conn.context, conn.context_value = native.context, native.context_value
conn.set_context, conn.set_context_value = native.set_context, native.set_context_value
conn.send, conn.close = native.send, native.close
conn.subscribe, conn.unsubscribe = waiting(native.subscribe), waiting(native.unsubscribe)
conn.wait_context_value = waiting(native.wait_context_value)

mix.mesh.publish = waiting(native.publish)
mix.mesh.send = waiting(native.send_to)
mix.http.request = waiting(native.request)
function mix.websocket()
    local id, problem = native.current()
    if id == nil then return nil, problem end
    return setmetatable_({ id = id }, conn)
end

coroutine, collectgarbage, dofile, loadfile, string.dump = nil, nil, nil, nil, nil
os = { time = os.time, date = os.date, clock = os.clock, difftime = os.difftime }

-- How the router makes the object of a connection.
return function(id) return setmetatable_({ id = id }, conn) end
