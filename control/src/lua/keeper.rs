//! Looks after handlers, now and then: reads scripts that were changed, and replaces threads that hang or are not there.
//!
//! A thread hangs where a call into Lua's library does not end: nothing ends that but the end of the process. It is given up,
//! with the machine's last place, and another one goes on with its line. How many there may be at once is bounded: clients may be
//! able to bring it about.

use std::sync::Arc;
use std::time::Duration;

use super::script::{Script, Stamp};
use super::tenure::Tenure;
use super::{Handler, Line, start_thread};
use crate::Shards;

/// So many threads of one handler may have been given up and not have ended. Each has what is left of a CPU, and a VM.
const GIVEN_UP_MAX: usize = 4;

/// Looks after one handler: its files, and its threads.
pub(super) struct Keeper {
    handler: Arc<Handler>,
    stamp: Stamp,
}

impl Keeper {
    pub(super) fn new(handler: Arc<Handler>) -> Self {
        let stamp = handler.script.load().stamp();
        Self { handler, stamp }
    }

    pub(super) fn look(&mut self, shards: &Arc<dyn Shards>) {
        self.look_at_files();
        for line in &self.handler.lines {
            self.look_at_thread(line, shards, self.handler.hang_time());
        }
    }

    fn look_at_files(&mut self) {
        let script = self.handler.script.load_full();
        let stamp = script.stamp();
        if stamp == self.stamp {
            return;
        }
        match Script::read(&script.path, &self.handler.limits, &self.handler.surroundings.options) {
            Ok(newer) => {
                // From before it was read, unless it has other files now: what changes meanwhile is seen the next time.
                self.stamp = if newer.has_the_files_of(&script) { stamp } else { newer.stamp() };
                self.handler.use_script(newer);
            }
            Err(error) => {
                self.stamp = stamp;
                self.handler.figures.count_load(false);
                let handler = &*self.handler.name;
                tracing::error!(
                    handler,
                    "the script was changed and cannot be used; the one before stays: {error}"
                );
            }
        }
    }

    fn look_at_thread(&self, line: &Arc<Line>, shards: &Arc<dyn Shards>, hang_time: Duration) {
        let tenure = line.tenure.load_full();
        let handler = &*self.handler.name;
        if !tenure.is_alive() {
            if !line.is_closed() {
                tracing::error!(handler, "a thread is not there; another one goes on");
                self.start_again(line, shards);
            }
            return;
        }
        if !tenure.hangs(hang_time) {
            tenure.set_stuck(false);
            return;
        }
        if self.handler.figures.given_up() >= GIVEN_UP_MAX {
            if !tenure.set_stuck(true) {
                tracing::error!(
                    handler,
                    "a call into Lua's library does not end, and {GIVEN_UP_MAX} threads are in such calls already: \
                     its connections are refused until one of them comes back"
                );
            }
            return;
        }
        // What it has begun with is answered if it ever comes back, and has its deadline in the shard.
        tenure.give_up();
        self.handler.figures.count_hung_thread();
        tracing::error!(
            handler,
            "a call into Lua's library does not end; another thread goes on, and its connections have to come again"
        );
        self.start_again(line, shards);
    }

    /// Where that fails it is tried at the next look: what is not there is seen.
    fn start_again(&self, line: &Arc<Line>, shards: &Arc<dyn Shards>) {
        if let Err(error) = start_thread(&self.handler, line, shards) {
            line.tenure.store(Arc::new(Tenure::over()));
            tracing::error!(handler = &*self.handler.name, %error, "there is no thread to go on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fanwire_core::api::{Actor, ApiRequest};
    use fanwire_core::directory::Directory;
    use fanwire_core::ids::{RealmId, RoleId, ShardId};
    use fanwire_core::question::Verdict;

    use super::*;
    use crate::lua::{LuaConfig, LuaDesk, LuaLimits, LuaQueue, desk};
    use crate::queues::Queues;

    /// Shards that nobody asks.
    struct Nobody;

    impl Shards for Nobody {
        fn drain(&self) {}

        fn stop_now(&self) {}

        fn reload(&self, _: bool) -> crate::reload::Outcome {
            unreachable!("nobody reloads")
        }

        fn answer(&self, _: ShardId, _: Verdict) -> Result<(), Verdict> {
            Ok(())
        }

        fn count(&self) -> usize {
            0
        }

        fn ask(&self, _: ShardId, request: ApiRequest) -> Result<(), ApiRequest> {
            Err(request)
        }

        fn directory(&self) -> &Directory {
            unreachable!("nobody looks")
        }
    }

    /// One thread of a handler whose script has this at its top level; it is not started.
    fn keeper(top_level: &str) -> (Keeper, LuaQueue, Arc<dyn Shards>) {
        let script = Script {
            path: "handler.lua".into(),
            source: format!("{top_level}\nfunction on_message() end").into(),
            modules: Arc::default(),
        };
        let config = LuaConfig {
            name: "/lua".to_owned(),
            script,
            actor: Actor { realm: RealmId::new(0), role: RoleId::new(0) },
            limits: LuaLimits::default(),
            options: BTreeMap::new(),
        };
        let (queue, LuaDesk(mut handlers)) = desk(vec![config], &Queues::default());
        (Keeper::new(handlers.remove(0)), queue, Arc::new(Nobody))
    }

    fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..60_000 {
            if is_so() {
                return;
            }
            std::thread::park_timeout(Duration::from_micros(500));
        }
        panic!("{what} never happens");
    }

    #[test]
    fn a_thread_that_is_not_there_is_started_until_nothing_can_come() {
        let (keeper, queue, shards) = keeper("");
        let line = &keeper.handler.lines[0];
        assert!(!line.tenure.load().is_alive());
        keeper.look_at_thread(line, &shards, Duration::ZERO);
        assert!(line.tenure.load().is_alive());
        drop(queue);
        eventually("its end", || !line.tenure.load().is_alive());
        keeper.look_at_thread(line, &shards, Duration::ZERO);
        assert!(!line.tenure.load().is_alive(), "the router stops");
    }

    #[test]
    fn threads_that_hang_are_given_up_but_not_without_end() {
        let hangs = "table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 1)";
        let (keeper, _queue, shards) = keeper(hangs);
        let (line, figures) = (&keeper.handler.lines[0], &keeper.handler.figures);
        keeper.start_again(line, &shards);
        for count in 1..=GIVEN_UP_MAX {
            let tenure = line.tenure.load_full();
            let _place = tenure.wait(10, 1).expect("there is room");
            let _request = figures.request(&tenure, 1).expect("and for this");
            assert!(tenure.wait(10, 1).is_none() && figures.request(&tenure, 1).is_none());
            eventually("that it hangs", || tenure.hangs(Duration::ZERO));
            keeper.look_at_thread(line, &shards, Duration::ZERO);
            assert!(tenure.is_given_up());
            assert_eq!(figures.given_up(), count);
            // What it had is given back.
            let next = line.tenure.load_full();
            assert!(next.wait(10, 1).is_some() && figures.request(&next, 1).is_some());
        }
        let tenure = line.tenure.load_full();
        eventually("that it hangs", || tenure.hangs(Duration::ZERO));
        keeper.look_at_thread(line, &shards, Duration::ZERO);
        assert!(tenure.is_stuck() && !tenure.is_given_up());
        keeper.look_at_thread(line, &shards, Duration::from_secs(3_600));
        assert!(!tenure.is_stuck(), "it is let in again once it does not hang");
    }

    #[test]
    fn a_thread_that_comes_back_ends() {
        let (keeper, _queue, shards) = keeper("for n = 1, 3000000 do end");
        let (line, figures) = (&keeper.handler.lines[0], &keeper.handler.figures);
        keeper.start_again(line, &shards);
        let tenure = line.tenure.load_full();
        eventually("that it is in Lua", || tenure.hangs(Duration::ZERO));
        keeper.look_at_thread(line, &shards, Duration::ZERO);
        eventually("its end", || !tenure.is_alive());
        assert_eq!(figures.given_up(), 0);
        assert!(line.tenure.load().is_alive());
    }
}
