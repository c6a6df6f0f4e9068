//! `string.find`, `match`, `gmatch` and `gsub`, whose steps count as instructions.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Error, IntoLua, IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};

use super::library::function;
use super::pattern::{Capture, Fault, Matcher};
use super::vm::State;

/// What has a meaning in a pattern.
const SPECIAL: &[u8] = b"^$*+?.([%-";

/// Puts them into the place of Lua's own.
pub(super) fn install(lua: &Lua, state: &Rc<State>) -> mlua::Result<()> {
    let string: Table = lua.globals().raw_get("string")?;
    let of = Rc::clone(state);
    type Find = (LuaString, LuaString, Option<i64>, Value);
    function(lua, &string, "find", move |lua, (text, pattern, init, plain): Find| {
        let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
        let Some(from) = begin(init, text.len()) else { return Value::Nil.into_lua_multi(lua) };
        let is_plain = !matches!(plain, Value::Nil | Value::Boolean(false));
        if is_plain || !pattern.iter().any(|byte| SPECIAL.contains(byte)) {
            let found = memchr::memmem::find(&text[from..], &pattern).map(|at| from + at);
            return match found {
                Some(at) => (at + 1, at + pattern.len()).into_lua_multi(lua),
                None => Value::Nil.into_lua_multi(lua),
            };
        }
        let budget = |steps| of.charge(steps);
        let mut search = Search::new(&text, &pattern, &budget);
        let Some((at, end)) = search.first(from).map_err(|fault| raised(&of, fault))? else {
            return Value::Nil.into_lua_multi(lua);
        };
        let captures = (0..search.matcher.captures.len()).map(|index| search.capture(lua, index));
        let places = [(at + 1).into_lua(lua), end.into_lua(lua)];
        places.into_iter().chain(captures).collect()
    })?;
    let of = Rc::clone(state);
    function(
        lua,
        &string,
        "match",
        move |lua, (text, pattern, init): (LuaString, LuaString, Option<i64>)| {
            let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
            let Some(from) = begin(init, text.len()) else { return Value::Nil.into_lua_multi(lua) };
            let budget = |steps| of.charge(steps);
            let mut search = Search::new(&text, &pattern, &budget);
            match search.first(from).map_err(|fault| raised(&of, fault))? {
                Some((at, end)) => search.captures(lua, at, end),
                None => Value::Nil.into_lua_multi(lua),
            }
        },
    )?;
    let of = Rc::clone(state);
    function(
        lua,
        &string,
        "gmatch",
        move |lua, (text, pattern, init): (LuaString, LuaString, Option<i64>)| {
            // Where the next one may begin; and where the last one ended, which an empty one must not do again.
            let (from, last) = (Cell::new(begin(init, text.as_bytes().len())), Cell::new(None));
            let of = Rc::clone(&of);
            lua.create_function(move |lua, ()| {
                let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
                let budget = |steps| of.charge(steps);
                // Here `^` is a character like others.
                let mut search = Search { anchored: false, matcher: Matcher::new(&text, &pattern, &budget) };
                let Some(mut at) = from.get() else { return Value::Nil.into_lua_multi(lua) };
                while at <= text.len() {
                    let end = search.matcher.match_at(at).map_err(|fault| raised(&of, fault))?;
                    if let Some(end) = end.filter(|end| Some(*end) != last.get()) {
                        from.set(Some(end));
                        last.set(Some(end));
                        search.matcher.settle().map_err(|fault| raised(&of, fault))?;
                        return search.captures(lua, at, end);
                    }
                    at += 1;
                }
                from.set(None);
                Value::Nil.into_lua_multi(lua)
            })
        },
    )?;
    let of = Rc::clone(state);
    type Replace = (LuaString, LuaString, Value, Option<i64>);
    function(lua, &string, "gsub", move |lua, (text, pattern, by, most): Replace| {
        if !matches!(
            by,
            Value::String(_) | Value::Integer(_) | Value::Number(_) | Value::Table(_) | Value::Function(_)
        ) {
            let words = format!("string/function/table expected, got {}", by.type_name());
            return Err(Error::runtime(format!("bad argument #3 to 'gsub' ({words})")));
        }
        let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
        let by = lua.coerce_string(by.clone())?.map_or(by, Value::String);
        let budget = |steps| of.charge(steps);
        let mut search = Search::new(&text, &pattern, &budget);
        let (mut out, mut at, mut last, mut count) = (Vec::new(), 0, None, 0);
        while most.is_none_or(|most| count < most) {
            let end = search.matcher.match_at(at).map_err(|fault| raised(&of, fault))?;
            if let Some(end) = end.filter(|end| Some(*end) != last) {
                count += 1;
                search.replace(lua, &mut out, at, end, &by)?;
                (at, last) = (end, Some(end));
            } else if let Some(byte) = text.get(at) {
                out.push(*byte);
                at += 1;
            } else {
                break;
            }
            if out.len() > OUT_BYTES_MAX {
                return Err(Error::runtime("gsub: the result is too long"));
            }
            if search.anchored {
                break;
            }
        }
        search.matcher.settle().map_err(|fault| raised(&of, fault))?;
        out.extend_from_slice(&text[at.min(text.len())..]);
        (lua.create_string(out)?, count).into_lua_multi(lua)
    })
}

/// A result grows outside of Lua's memory.
const OUT_BYTES_MAX: usize = 64 << 20;

/// The place, from 0, where a search begins that is to begin at `init`; none beyond the end.
fn begin(init: Option<i64>, length: usize) -> Option<usize> {
    let length = length as i64;
    let at = match init.unwrap_or(1) {
        init @ 1.. => init - 1,
        0 => 0,
        back => (length + back.max(-length)).max(0),
    };
    (at <= length).then_some(at as usize)
}

fn raised(state: &State, fault: Fault) -> Error {
    match fault {
        Fault::Malformed(words) => Error::runtime(words),
        Fault::Spent => Error::runtime(state.spent_words()),
    }
}

/// One pattern over one text.
struct Search<'a> {
    /// It begins with `^`: there is one place to try.
    anchored: bool,
    matcher: Matcher<'a>,
}

impl<'a> Search<'a> {
    fn new(text: &'a [u8], pattern: &'a [u8], budget: &'a dyn Fn(u32) -> bool) -> Self {
        let rest = pattern.strip_prefix(b"^");
        Self { anchored: rest.is_some(), matcher: Matcher::new(text, rest.unwrap_or(pattern), budget) }
    }

    fn first(&mut self, from: usize) -> Result<Option<(usize, usize)>, Fault> {
        let found = if self.anchored {
            self.matcher.match_at(from)?.map(|end| (from, end))
        } else {
            self.matcher.search(from)?
        };
        self.matcher.settle()?;
        Ok(found)
    }

    fn capture(&self, lua: &Lua, index: usize) -> mlua::Result<Value> {
        match self.matcher.captures[index] {
            Capture::Open(_) => Err(Error::runtime("unfinished capture")),
            Capture::Place(at) => (at + 1).into_lua(lua),
            Capture::Span(from, to) => lua.create_string(&self.matcher.text()[from..to]).map(Value::String),
        }
    }

    /// All that it has captured; all of the match, if it captures nothing.
    fn captures(&self, lua: &Lua, at: usize, end: usize) -> mlua::Result<MultiValue> {
        if self.matcher.captures.is_empty() {
            return lua.create_string(&self.matcher.text()[at..end])?.into_lua_multi(lua);
        }
        (0..self.matcher.captures.len()).map(|index| self.capture(lua, index)).collect()
    }

    /// Appends what stands for the match.
    fn replace(&self, lua: &Lua, out: &mut Vec<u8>, at: usize, end: usize, by: &Value) -> mlua::Result<()> {
        let whole = &self.matcher.text()[at..end];
        let value = match by {
            Value::String(by) => return self.fill_in(lua, out, (at, end), &by.as_bytes()),
            Value::Table(table) => {
                let key = self.captures(lua, at, end)?.into_iter().next().unwrap_or(Value::Nil);
                table.get(key)?
            }
            Value::Function(function) => function.call(self.captures(lua, at, end)?)?,
            _ => Value::Nil,
        };
        match &value {
            Value::Nil | Value::Boolean(false) => out.extend_from_slice(whole),
            Value::String(_) | Value::Integer(_) | Value::Number(_) => {
                let text = lua.coerce_string(value)?;
                text.iter().for_each(|text| out.extend_from_slice(&text.as_bytes()));
            }
            other => {
                let kind = other.type_name();
                return Err(Error::runtime(format!("invalid replacement value (a {kind})")));
            }
        }
        Ok(())
    }

    /// Appends a text in which `%1` and its like stand for what was captured.
    fn fill_in(
        &self,
        lua: &Lua,
        out: &mut Vec<u8>,
        (at, end): (usize, usize),
        by: &[u8],
    ) -> mlua::Result<()> {
        let captures = &self.matcher.captures;
        let mut bytes = by.iter();
        while let Some(byte) = bytes.next() {
            if *byte != b'%' {
                out.push(*byte);
                continue;
            }
            let number = match bytes.next() {
                Some(b'%') => {
                    out.push(b'%');
                    continue;
                }
                Some(digit) if digit.is_ascii_digit() => usize::from(digit - b'0'),
                _ => return Err(Error::runtime("invalid use of '%' in replacement string")),
            };
            if number == 0 || number == 1 && captures.is_empty() {
                out.extend_from_slice(&self.matcher.text()[at..end]);
            } else if number > captures.len() {
                let words = format!("invalid capture index %{number} in replacement string");
                return Err(Error::runtime(words));
            } else {
                let value = self.capture(lua, number - 1)?;
                let text = lua.coerce_string(value)?;
                text.iter().for_each(|text| out.extend_from_slice(&text.as_bytes()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mlua::Function;
    use proptest::prelude::*;

    use super::*;
    use crate::lua::vm::Vm;
    use crate::lua::vm::tests::{load, lua_of};

    /// All that the four say of a text and a pattern, as words.
    const ASK: &str = r#"
        return function(text, pattern, init)
            local out = {}
            local function note(ok, ...)
                if not ok then out[#out + 1] = 'error|' return end
                for _, value in ipairs({ n = select('#', ...), ... }) do out[#out + 1] = tostring(value) end
                out[#out + 1] = select('#', ...) .. '|'
            end
            note(pcall(string.find, text, pattern, init))
            note(pcall(string.find, text, pattern, init, true))
            note(pcall(string.match, text, pattern, init))
            note(pcall(string.gsub, text, pattern, '<%0%1%%>'))
            note(pcall(string.gsub, text, pattern, '%2', 2))
            note(pcall(string.gsub, text, pattern, { a = 'A', b = false, c = 3 }))
            note(pcall(string.gsub, text, pattern, function(...) return select('#', ...) end))
            note(pcall(function()
                local count = 0
                for one, two in text:gmatch(pattern) do
                    note(true, one, two)
                    count = count + 1
                end
                return count
            end))
            return table.concat(out, ',')
        end"#;

    /// What Lua's own say, and what ours do.
    struct Both {
        theirs: Function,
        ours: Function,
        /// Theirs, and ours.
        _states: (Lua, Vm),
    }

    impl Both {
        fn new() -> Self {
            let vm = load("function on_message() end").expect("it is one");
            let lua = Lua::new();
            let ours = lua_of(&vm).load(ASK).eval().expect("it is Lua");
            Self { theirs: lua.load(ASK).eval().expect("the same"), ours, _states: (lua, vm) }
        }

        fn agree(&self, text: &[u8], pattern: &[u8], init: Option<i64>) -> Result<(), TestCaseError> {
            let ask = |of: &Function| {
                let said: LuaString = of.call((Bytes(text), Bytes(pattern), init)).expect("it is told");
                said.to_string_lossy()
            };
            prop_assert_eq!(ask(&self.ours), ask(&self.theirs), "{:?} {:?} {:?}", text, pattern, init);
            Ok(())
        }
    }

    struct Bytes<'a>(&'a [u8]);

    impl IntoLua for Bytes<'_> {
        fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
            lua.create_string(self.0).map(Value::String)
        }
    }

    #[test]
    fn they_say_what_those_of_lua_say() {
        let both = Both::new();
        for (text, pattern) in [
            ("  trim me  ", "^%s*(.-)%s*$"),
            ("key = value", "(%w+)%s*=%s*(%w+)"),
            ("f(a(b)c)d", "%b()"),
            ("THE (quick) fox", "%f[%a]%a+%f[%A]"),
            ("abcabc", "(abc)%1"),
            ("hello", "()ll()"),
            ("a]b-c", "[]]"),
            ("a]b-c", "[^]-]+"),
            ("a-b", "[a%-]+"),
            ("x^y", "[x^]+"),
            ("\0a\0", "%z"),
            ("\x0b\u{85}", "%s"),
            ("", ""),
            ("abc", ""),
            ("aXb", "%u"),
            ("%d", "%%d"),
            ("$", "$$"),
            ("a.b", "a.b"),
            ("a", "%"),
            ("a", "[a"),
            ("a", "(a"),
            ("a", "a)"),
            ("a", "%1"),
            ("a", "%f"),
            ("a", "%b"),
            ("a", "[%"),
            ("a", "[]"),
            ("a", "[^]"),
        ] {
            for init in [None, Some(1), Some(0), Some(-1), Some(2), Some(100), Some(i64::MIN), Some(i64::MAX)]
            {
                both.agree(text.as_bytes(), pattern.as_bytes(), init).expect("they agree");
            }
        }
        let many = ["()".repeat(32), "()".repeat(33), "a?".repeat(199), "a?".repeat(250), "(".repeat(40)];
        for pattern in &many {
            both.agree(b"aaaa", pattern.as_bytes(), None).expect("they agree");
        }
    }

    proptest! {
        #[test]
        fn they_say_it_of_any_pattern(
            text in prop::collection::vec(prop::sample::select(b"aab-(). 1\0\xff".to_vec()), 0..12),
            items in prop::collection::vec(prop::sample::select(vec![
                "a", "b", ".", "%a", "%S", "%d", "%W", "[ab]", "[^a]", "[a-c]", "[]a]", "[a-]", "[%w-]", "(", ")", "()", "*",
                "+", "-", "?", "%b()", "%f[%w]", "%1", "%2", "^", "$", "%%", "%", "[", "]", "\0",
            ]), 0..8),
            init in prop::option::of(-14_i64..14),
        ) {
            thread_local!(static BOTH: Both = Both::new());
            let pattern = items.concat();
            BOTH.with(|both| both.agree(&text, pattern.as_bytes(), init))?;
        }
    }
}
