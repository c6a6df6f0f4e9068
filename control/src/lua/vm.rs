//! One Lua state with one script: what it may use, how long it may run, and what its mistakes are called.
//!
//! Lua 5.4 and not LuaJIT: its integers have 64 bits, so ids keep every digit; hooks count instructions in all code, which compiled
//! traces of LuaJIT do not; and memory is counted by an allocator of ours. What scripts find is in `library` and in `prelude.lua`.
//!
//! A hook is called each [`STEP`] instructions and raises an error when the event has none left, or ran for too long. That ends what is
//! Lua. A call into Lua's own library is one instruction, however long it takes: against that there is
//! the keeper, which replaces the thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::debug::Debug;
use mlua::{Error, Function, HookTriggers, Lua, LuaOptions, MultiValue, StdLib, Thread, VmState};

use super::event::{Event, Wait};
use super::figures::Outcome;
use super::library;
use super::script::Script;
use super::{LuaLimits, Surroundings};

/// Instructions between two looks at the budget.
const STEP: u32 = 1_000;

/// A Lua state with a script in it.
pub(super) struct Vm {
    lua: Lua,
    state: Rc<State>,
    /// Makes the object of a connection.
    pub(super) new_conn: Function,
    pub(super) functions: Functions,
}

/// The functions of a script that are called when something happens.
#[derive(Default)]
pub(super) struct Functions {
    pub(super) on_connect: Option<Function>,
    pub(super) on_handshake: Option<Function>,
    pub(super) on_message: Option<Function>,
    pub(super) on_close: Option<Function>,
}

/// What the library's functions share.
pub(super) struct State {
    /// The event in hand; none while the script is loaded.
    pub(super) event: RefCell<Option<Rc<Event>>>,
    /// Instructions left.
    left: Cell<u64>,
    /// What there was of them.
    allowed: Cell<u64>,
    /// How long Lua may run in one go, and until when that is.
    go: Duration,
    until: Cell<Instant>,
    /// It was longer.
    is_late: Cell<bool>,
    pub(super) script: Script,
    /// Modules that were asked for, as read.
    pub(super) modules: RefCell<BTreeMap<String, Arc<str>>>,
    pub(super) surroundings: Surroundings,
}

/// Where a script has come to.
pub(super) enum Step {
    Done(MultiValue),
    Waits(Wait),
    Failed(Failure),
}

/// Why a script did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// With the file and the line, where Lua knows them.
    pub(super) words: String,
}

/// Runs the top level of a script, and gives back the modules that it requires.
pub(super) fn check(
    script: &Script,
    limits: &LuaLimits,
    options: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Arc<str>>, String> {
    let vm = Vm::load(script, limits, Surroundings::nowhere(options))?;
    Ok(vm.state.modules.take())
}

impl State {
    /// Whether the event has used up its instructions.
    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Takes instructions for steps of a search; false: there are none left.
    pub(super) fn charge(&self, steps: u32) -> bool {
        self.left.set(self.left.get().saturating_sub(u64::from(steps / STEPS_PER_INSTRUCTION)));
        self.look_at_clock();
        self.left.get() > 0
    }

    /// Instructions are no measure of time: each may be a call that copies a megabyte.
    fn look_at_clock(&self) {
        if self.left.get() > 0 && now() >= self.until.get() {
            self.is_late.set(true);
            self.left.set(0);
        }
    }

    /// Lua runs from now on, with so many instructions.
    fn go(&self, left: u64) {
        self.left.set(left);
        self.until.set(now() + self.go);
        self.is_late.set(false);
    }

    pub(super) fn spent_words(&self) -> String {
        if self.is_late.get() {
            return format!("it ran longer than {:?} in one go", self.go);
        }
        format!("more than {} instructions", self.allowed.get())
    }

    fn spend(&self, at: &Debug<'_>) -> mlua::Result<VmState> {
        self.left.set(self.left.get().saturating_sub(STEP.into()));
        self.look_at_clock();
        if self.left.get() > 0 {
            return Ok(VmState::Continue);
        }
        let place = at.source().short_src.unwrap_or_default().into_owned();
        Err(Error::runtime(format!(
            "{place}:{}: {}",
            at.current_line().unwrap_or_default(),
            self.spent_words()
        )))
    }
}

impl Vm {
    /// A state in which the script has been run once, to its end.
    pub(super) fn load(
        script: &Script,
        limits: &LuaLimits,
        surroundings: Surroundings,
    ) -> Result<Self, String> {
        let state = Rc::new(State {
            event: RefCell::default(),
            left: Cell::new(limits.instructions.max(LOAD_INSTRUCTIONS)),
            allowed: Cell::new(limits.instructions.max(LOAD_INSTRUCTIONS)),
            go: limits.lua_time(),
            until: Cell::new(now() + LOAD_TIME),
            is_late: Cell::new(false),
            script: script.clone(),
            modules: RefCell::default(),
            surroundings,
        });
        let vm = Self::make(Rc::clone(&state), limits.memory).map_err(|error| words(&error))?;
        let failed = |error: Error| failure(&vm.state, &error).words;
        let chunk = vm.lua.load(&*script.source).set_name(format!("@{}", script.name()));
        let chunk = chunk.set_mode(ChunkMode::Text).into_function().map_err(failed)?;
        let thread = vm.lua.create_thread(chunk).map_err(failed)?;
        thread.resume::<()>(()).map_err(failed)?;
        if thread.is_resumable() {
            return Err(format!("{}: the top level cannot wait", script.name()));
        }
        let function = |name: &str| {
            let value: mlua::Value = vm.lua.globals().get(name).map_err(failed)?;
            match value {
                mlua::Value::Nil => Ok(None),
                mlua::Value::Function(function) => Ok(Some(function)),
                other => {
                    Err(format!("{}: {name} is a {}, and no function", script.name(), other.type_name()))
                }
            }
        };
        let functions = Functions {
            on_connect: function("on_connect")?,
            on_handshake: function("on_handshake")?,
            on_message: function("on_message")?,
            on_close: function("on_close")?,
        };
        if functions.on_message.is_none() {
            return Err(format!("{}: there is no function on_message", script.name()));
        }
        vm.state.allowed.set(limits.instructions);
        Ok(Self { functions, ..vm })
    }

    fn make(state: Rc<State>, memory: usize) -> mlua::Result<Self> {
        let libraries =
            StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8 | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        lua.set_memory_limit(memory)?;
        let spender = Rc::clone(&state);
        let triggers = HookTriggers::new().every_nth_instruction(STEP);
        lua.set_global_hook(triggers, move |_, at| spender.spend(at))?;
        let new_conn = library::install(&lua, &state)?;
        Ok(Self { lua, state, new_conn, functions: Functions::default() })
    }

    pub(super) fn script(&self) -> &Script {
        &self.state.script
    }

    /// Begins with an event.
    pub(super) fn begin(
        &self,
        function: &Function,
        event: &Rc<Event>,
        arguments: MultiValue,
    ) -> (Option<Thread>, Step) {
        match self.lua.create_thread(function.clone()) {
            Ok(thread) => {
                let step = self.resume(&thread, event, arguments);
                (Some(thread), step)
            }
            Err(error) => (None, Step::Failed(failure(&self.state, &error))),
        }
    }

    /// Goes on with it.
    pub(super) fn resume(&self, thread: &Thread, event: &Rc<Event>, arguments: MultiValue) -> Step {
        self.state.go(event.left.get());
        // Noted where the script could not wait then.
        event.wait.take();
        self.state.event.replace(Some(Rc::clone(event)));
        let result = catch_unwind(AssertUnwindSafe(|| thread.resume::<MultiValue>(arguments)));
        self.state.event.take();
        event.left.set(self.state.left.get());
        match result {
            Ok(Ok(values)) if !thread.is_resumable() => Step::Done(values),
            Ok(Ok(_)) => match event.wait.take() {
                Some(wait) => Step::Waits(wait),
                None => {
                    Step::Failed(Failure { outcome: Outcome::Error, words: "it waits for nothing".into() })
                }
            },
            Ok(Err(error)) => Step::Failed(failure(&self.state, &error)),
            Err(_) => {
                Step::Failed(Failure { outcome: Outcome::Panic, words: "the router panicked over it".into() })
            }
        }
    }

    /// Makes values of the state, or says what went wrong.
    pub(super) fn values(
        &self,
        make: impl FnOnce(&Lua) -> mlua::Result<MultiValue>,
    ) -> Result<MultiValue, Failure> {
        // They may be made by a little Lua, which is nobody's.
        self.state.go(self.state.allowed.get());
        make(&self.lua).map_err(|error| failure(&self.state, &error))
    }

    pub(super) fn memory(&self) -> u64 {
        self.lua.used_memory() as u64
    }

    /// Throws away what nothing holds any more; whether that leaves room worth going on with.
    pub(super) fn recovers(&self, memory_max: usize) -> bool {
        self.lua.gc_collect().is_ok() && self.lua.used_memory() < memory_max / 8 * 7
    }
}

/// A step of a search is a fraction of what an instruction is, or searches through long texts would be dear.
const STEPS_PER_INSTRUCTION: u32 = 16;

/// What a script that only defines functions can use; also where events have less.
const LOAD_INSTRUCTIONS: u64 = 10_000_000;
/// How long these may take.
const LOAD_TIME: Duration = Duration::from_secs(30);

#[allow(clippy::disallowed_methods, reason = "how long a script runs is real time")]
fn now() -> Instant {
    Instant::now()
}

fn failure(state: &State, error: &Error) -> Failure {
    let outcome = match innermost(error) {
        _ if state.is_late.get() => Outcome::Time,
        _ if state.is_spent() => Outcome::Instructions,
        Error::MemoryError(_) => Outcome::Memory,
        _ => Outcome::Error,
    };
    Failure { outcome, words: words(error) }
}

fn innermost(error: &Error) -> &Error {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => innermost(cause),
        other => other,
    }
}

/// One line: where it happened, and what.
fn words(error: &Error) -> String {
    let place = match error {
        // What Rust raises says no place: the script's own innermost line is the first in the trace that is no prelude's.
        Error::CallbackError { traceback, .. } => traceback.lines().find_map(place_in),
        _ => None,
    };
    let text = match innermost(error) {
        Error::SyntaxError { message, .. } => message.clone(),
        Error::RuntimeError(words) => words.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or("an error without words");
    let place = place.filter(|place| !line.starts_with(place));
    place.map_or_else(|| line.to_owned(), |place| format!("{place}: {line}"))
}

/// `entry.lua:12` of a line such as `\tentry.lua:12: in function 'on_message'`.
fn place_in(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (place, rest) = line.split_once(": in ")?;
    let (file, number) = place.rsplit_once(':')?;
    let is_script = !file.starts_with('[') && !file.starts_with(library::PRELUDE_NAME) && !rest.is_empty();
    (is_script && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(place)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lua) fn lua_of(vm: &Vm) -> &Lua {
        &vm.lua
    }

    fn script(source: &str) -> Script {
        Script { path: "folder/handler.lua".into(), source: source.into(), modules: Arc::default() }
    }

    pub(in crate::lua) fn load(source: &str) -> Result<Vm, String> {
        Vm::load(&script(source), &LuaLimits::default(), Surroundings::nowhere(&BTreeMap::new()))
    }

    /// What a top level with this in it ends with; none: it is fine.
    fn wrong(source: &str) -> Option<String> {
        load(&format!("{source}\nfunction on_message() end")).err()
    }

    #[test]
    fn a_script_that_cannot_be_used_says_its_line() {
        for (source, words) in [
            ("\nx = )", "handler.lua:2: unexpected symbol near ')'"),
            ("\nerror('so it is')", "handler.lua:2: so it is"),
            ("local t = nil\nt.x = 1", "handler.lua:2: attempt to index a nil value (local 't')"),
            ("on_close = 5", "handler.lua: on_close is a integer, and no function"),
            ("while true do end", "handler.lua:1: more than 10000000 instructions"),
            ("mix.json_decode()", "handler.lua:1: "),
            ("require('nowhere')", "module \"nowhere\": folder/nowhere.lua: cannot be read"),
            ("require('../etc/passwd')", "\"../etc/passwd\" is no name of a module"),
        ] {
            let found = wrong(source).unwrap_or_default();
            assert!(found.contains(words), "{source}: {found}");
        }
        assert!(
            load("x = 1").err().is_some_and(|words| words == "handler.lua: there is no function on_message")
        );
    }

    #[test]
    fn nothing_leads_out_of_it_or_past_its_budget() {
        for source in [
            "assert(io == nil and debug == nil and package == nil and dofile == nil and loadfile == nil)",
            "assert(os.execute == nil and os.exit == nil and os.remove == nil and os.getenv == nil and os.time() > 0)",
            "assert(string.dump == nil and coroutine == nil and collectgarbage == nil)",
            "assert(not pcall(setmetatable, {}, { __gc = function() end }))",
            "assert(load('\\27Lua') == nil and load(function() end) == nil and load('return 5')() == 5)",
            "assert(string.rep('', 1 << 60) == '' and ('ab'):rep(2, '-') == 'ab-ab')",
            "assert(not pcall(table.move, {}, 1, 1 << 60, 2))",
        ] {
            assert_eq!(wrong(source), None, "{source}");
        }
        for source in [
            "while true do pcall(function() while true do end end) end",
            "while true do xpcall(error, function() while true do end end) end",
            "local function f() return pcall(f) end while true do f() end",
            "setmetatable({}, { __index = function(t, k) while true do end end }).x()",
            "table.sort({ 3, 2, 1 }, function() while true do end end)",
            "('x'):gsub('x', function() while true do end end)",
            "for _ in ('x'):gmatch('x') do while true do end end",
        ] {
            let found = wrong(source).unwrap_or_default();
            assert!(found.contains("more than 10000000 instructions"), "{source}: {found}");
        }
    }

    #[test]
    fn searches_end_with_the_budget() {
        let vm = load("function on_message() end").expect("it is one");
        for source in [
            "string.find(string.rep('a', 400), string.rep('a-', 40) .. 'b')",
            "while true do pcall(string.match, 'x' .. (' '):rep(1 << 20) .. 'x', '^%s*(.-)%s*$') end",
            "string.gsub(('a'):rep(1 << 20), '.-b', '')",
            "for word in ('('):rep(1 << 20):gmatch('%b()') do end",
        ] {
            vm.state.go(100_000);
            let error = vm.lua.load(source).exec().expect_err(source);
            assert_eq!(failure(&vm.state, &error).outcome, Outcome::Instructions, "{source}: {error}");
        }
        // As many steps as the text is long are little.
        vm.state.go(1_000_000);
        let source = "assert(#string.gsub(('a '):rep(1 << 19), '%s+', '') == 1 << 19)";
        vm.lua.load(source).exec().expect("it is within the budget");
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let limits = LuaLimits { memory: 4 << 20, ..LuaLimits::default() };
        let source = "
            assert(not pcall(string.rep, 'x', 1 << 40))
            local ok, why = pcall(function() local t = {} while true do t[#t + 1] = ('x'):rep(10000) end end)
            assert(not ok and tostring(why):find('memory'))
            function on_message() end";
        let vm = Vm::load(&script(source), &limits, Surroundings::nowhere(&BTreeMap::new()))
            .map_err(|why| assert_eq!(why, ""))
            .ok();
        assert!(vm.expect("just seen").recovers(limits.memory));
        let leak =
            "kept = {} pcall(function() while true do kept[#kept + 1] = ('x'):rep(1000) .. #kept end end)
            function on_message() end";
        // It is full of what a global holds, and there may not even be room for the rest of the script.
        assert!(
            Vm::load(&script(leak), &limits, Surroundings::nowhere(&BTreeMap::new()))
                .map_or(true, |vm| !vm.recovers(limits.memory))
        );
    }

    #[test]
    fn the_library_does_what_it_is_for() {
        for source in [
            "local t = mix.str_split('@user', '@') assert(#t == 2 and t[1] == '' and t[2] == 'user' and table.getn(t) == 2)",
            "local t = mix.str_split('', '@') assert(#t == 1 and t[1] == '')",
            "local t = {} for i = 1, 40 do t = { t, t } end
             local text, err = mix.json_encode(t) assert(text == nil and err:find('more JSON'))",
            "assert(mix.url_encode('a b/\u{e9}&-._~') == 'a%20b%2F%C3%A9%26-._~')",
            "assert(mix.md5('a') == '0cc175b9c0f1b6a831c399e269772661' and #mix.md5_bin('a') == 16)",
            "assert(mix.sha1('a') == '86f7e437faa5a7fce15d1ddcb9eaeaea377667b8' and #mix.sha1_bin('a') == 20)",
            "assert(mix.base64_encode('a\\0\\xff') == 'YQD/' and mix.base64_decode('YQD/') == 'a\\0\\xff')",
            "local s, err = mix.base64_decode('?') assert(s == nil and #err > 0)",
            "local t, err = mix.json_decode('{') assert(t == nil and #err > 0)",
            "assert(mix.json_encode({ a = 1, b = { 1, mix.null } }) == '{\"a\":1,\"b\":[1,null]}')",
            "assert('user:' .. mix.json_decode('{\"uid\":9007199254740993}').uid == 'user:9007199254740993')",
            "local u = mix.url_parse('http://joe:s@a.example:81/x?y=z#f') assert(u.host == 'a.example' and u.port == 81 \
             and u.path == '/x' and u.query == 'y=z' and u.fragment == 'f' and u.username == 'joe' and u.password == 's')",
            "assert(mix.bytes_tostring({ 104, 105 }) == 'hi' and unpack({ 7 }) == 7 and mix.log(mix.INFO, 'x'))",
            "local conn, err = mix.websocket() assert(conn == nil and #err > 0)",
            "local resp, err = mix.http.request('GET', 'http://a/') assert(resp == nil and #err > 0)",
            "require('utils.prettyprint') print({ 1 })",
        ] {
            assert_eq!(wrong(source), None, "{source}");
        }
    }

    #[test]
    fn a_module_that_fails_is_tried_again_and_none_waits() {
        let module = |name: &str, text: &str| (name.to_owned(), Arc::from(text));
        let modules = BTreeMap::from([
            module("fails", "times = (times or 0) + 1 if times == 1 then error('not yet') end return times"),
            module("circle", "return require('circle')"),
            module("waits", "return mix.http.request('GET', 'http://127.0.0.1:1/')"),
        ]);
        let source = "
            local ok, why = pcall(require, 'fails') assert(not ok and why:find('not yet'))
            assert(require('fails') == 2 and require('fails') == 2)
            local ok, why = pcall(require, 'circle') assert(not ok and why:find('requires itself'))
            local ok, why = pcall(require, 'waits') assert(not ok and why:find('cannot wait'))
            function on_message() end";
        let script = Script { modules: Arc::new(modules), ..script(source) };
        let loaded = Vm::load(&script, &LuaLimits::default(), Surroundings::nowhere(&BTreeMap::new()));
        assert_eq!(loaded.err(), None);
    }

    #[test]
    fn a_script_is_checked_with_its_own_limits_and_options() {
        let options = BTreeMap::from([("url".to_owned(), "http://a".to_owned())]);
        let source = "local url = mix.server.option('url') .. '/login' function on_message() end";
        let checked = check(&script(source), &LuaLimits::default(), &options);
        assert_eq!(checked, Ok(BTreeMap::new()));
        let limits = LuaLimits { memory: 4 << 20, ..LuaLimits::default() };
        let source = "local t = {} for n = 1, 1000000 do t[n] = n end function on_message() end";
        assert!(check(&script(source), &limits, &options).is_err_and(|words| words.contains("memory")));
    }

    #[test]
    fn calls_that_copy_much_are_ended_by_their_time() {
        let vm = load("function on_message() end").map_err(|why| assert_eq!(why, "")).expect("as seen");
        vm.state.go(1_000_000_000);
        vm.state.until.set(now() + Duration::from_millis(100));
        let copies = "local s = ('x'):rep(1 << 20) while #s > 0 do pcall(function() s = s:sub(2) end) end";
        let error = vm.lua.load(copies).exec().expect_err("it is ended");
        let failure = failure(&vm.state, &error);
        assert_eq!(failure.outcome, Outcome::Time);
        assert!(failure.words.contains("it ran longer than"), "{}", failure.words);
    }
}
