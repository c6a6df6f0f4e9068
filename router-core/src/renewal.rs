//! New permissions and limits for a shard that runs.
//!
//! They hold from one call to the next: nothing is accepted, routed or delivered afterwards that they forbid. What was routed
//! before is still due. Sessions, calls and all subscriptions that are allowed stay as they are.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::access::{Access, Action};
use crate::api::{Revocation, Revoked};
use crate::clock::Instant;
use crate::config::CoreConfig;
use crate::delivery::Outlet;
use crate::ids::{RoleId, SubscriptionId};
use crate::mutation::{Mutation, planted};
use crate::session::error;
use crate::shard::Shard;

impl Shard {
    /// Goes on with `config`, whose [`Access`] was [renewed](Access::renewed) from the present one. The rings stay as they are,
    /// and so does compression. Once all shards have it, [`prune_histories`](crate::directory::Directory::prune_histories) is due.
    ///
    /// Subscriptions and registrations that the new permissions would refuse are withdrawn and counted. Of a subscription nobody is
    /// told: most would take an UNSUBSCRIBED that they did not ask for as a violation, even some who announce that they
    /// understand it, and a reload concerns many at once.
    pub fn renew(&mut self, now: Instant, config: Arc<CoreConfig>) {
        self.delivery.set_limits(config.limits.clone());
        let before = std::mem::replace(&mut self.config, config);
        self.withdraw_forbidden(now, &before.access);
        if !before.message_center.has_rules_of(&self.config.message_center) {
            self.renamed_from = Some(Outlet(0));
            self.withdraw_lost_channels(now);
        }
        self.withdraw_forbidden_inner();
        self.apply_notices(now);
    }

    fn withdraw_forbidden(&mut self, now: Instant, before: &Access) {
        let config = Arc::clone(&self.config);
        let access = &config.access;
        let changed = access.changed_roles(before);
        if !changed.iter().flatten().any(|changed| *changed) {
            return;
        }
        // Asked once for all members of a role.
        let mut verdicts: HashMap<(RoleId, SubscriptionId), bool, foldhash::fast::FixedState> =
            HashMap::default();
        for outlet in (0..self.outlet_count()).map(Outlet) {
            let Some(session) = self.session(outlet) else { continue };
            let (realm, role) = (session.realm, session.role);
            let holds_nothing = session.subscriptions.is_empty() && session.registrations.is_empty();
            if holds_nothing || !changed[realm.index()][role.index()] {
                continue;
            }
            let may_hear = |id: &SubscriptionId| {
                let topic = &self.subscriptions[id].topic;
                access.authorize_pattern(realm, role, Action::Subscribe, topic.policy(), topic.uri())
            };
            let is_lost =
                |id: &&SubscriptionId| !*verdicts.entry((role, **id)).or_insert_with(|| may_hear(id));
            let subscriptions: Vec<u64> =
                session.subscriptions.iter().filter(is_lost).map(|id| id.get()).collect();
            let registrations = session.registrations.iter().filter(|held| {
                !access.authorize_pattern(realm, role, Action::Register, held.policy(), held.uri())
            });
            let registrations: Vec<u64> = registrations.map(|held| held.id().get()).collect();
            self.withdraw(now, outlet, subscriptions, None);
            for number in registrations {
                let withdrawn = self.unregister(outlet, number);
                debug_assert!(withdrawn.is_ok(), "the session holds it");
                self.delivery.counters.withdrawn += 1;
                self.tell_revoked(outlet, Revoked::Registration(number), error::NOT_AUTHORIZED);
            }
        }
    }

    /// For a session that had the role `before` when it subscribed. What a hook is asked about in its new role, and was not in the
    /// old one, it has to ask for again.
    pub(crate) fn withdraw_what_the_role_forbids(&mut self, now: Instant, outlet: Outlet, before: RoleId) {
        let session = self.session(outlet).expect("it is open");
        let (access, realm, role) = (&self.config.access, session.realm, session.role);
        let is_lost = |id: &&SubscriptionId| {
            let topic = &self.subscriptions[*id].topic;
            let (policy, uri) = (topic.policy(), topic.uri());
            let is_asked_about = |role| access.asks_about_subscription(realm, role, policy, uri);
            !access.authorize_pattern(realm, role, Action::Subscribe, policy, uri)
                || is_asked_about(role) && !is_asked_about(before)
        };
        let lost: Vec<u64> = session.subscriptions.iter().filter(is_lost).map(|id| id.get()).collect();
        self.withdraw(now, outlet, lost, None);
    }

    /// Takes a subscription or registration from one session; false if it has none such.
    pub(crate) fn revoke_on_request(&mut self, now: Instant, revocation: &Revocation) -> bool {
        let Revocation { session, realm, what, reason } = revocation;
        let Some(outlet) = self.outlets.get(session).copied() else { return false };
        let session = self.session(outlet).expect("open sessions are here");
        if session.realm != *realm {
            return false;
        }
        match *what {
            Revoked::Subscription(number) => {
                let held = SubscriptionId::new(number)
                    .is_some_and(|id| session.subscriptions.binary_search(&id).is_ok());
                if held {
                    self.withdraw(now, outlet, vec![number], Some(reason));
                }
                held
            }
            Revoked::Registration(number) => {
                let held = self.unregister(outlet, number).is_ok();
                if held {
                    self.delivery.counters.withdrawn += 1;
                    self.tell_revoked(outlet, *what, reason);
                }
                held
            }
        }
    }

    /// Ends subscriptions that the session holds, without its doing. `reason`: what it is told, if it is.
    pub(crate) fn withdraw(
        &mut self,
        now: Instant,
        outlet: Outlet,
        subscriptions: Vec<u64>,
        reason: Option<&str>,
    ) {
        let has_lost = !subscriptions.is_empty();
        for number in subscriptions {
            if !planted(Mutation::ForbiddenSubscriptionKept) {
                let withdrawn = self.unsubscribe(now, outlet, number);
                debug_assert!(withdrawn.is_ok(), "the session holds it");
                self.delivery.counters.withdrawn += 1;
                if let Some(reason) = reason {
                    self.tell_revoked(outlet, Revoked::Subscription(number), reason);
                }
            }
        }
        // An echo client has one subscription, and no words to ask for it again.
        if has_lost && self.session(outlet).is_some_and(|session| session.place().is_some()) {
            self.close(now, outlet, 1008, "your role may not hear this room any more");
        }
    }
}
