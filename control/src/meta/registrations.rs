//! `wamp.registration.*`: what is registered, and by whom. All of it is in the directory.

use std::sync::Arc;

use fanwire_codec::wamp2::Revoked;
use fanwire_core::access::Action;
use fanwire_core::directory::{Registration, TopicCursor};
use fanwire_core::ids::{RealmId, RegistrationId};
use fanwire_core::uri::{self, UriRule};

use super::sessions::{LIST_MAX, check_length};
use super::subscriptions::{EntryRow, PAGE, by_policy};
use super::words::{Arguments, Refused, Said, error};
use super::{Caller, Desk, breathe};

impl Desk {
    pub(super) async fn list_registrations(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(0, &[])?;
        let mut all = Vec::new();
        self.visit_registrations(caller, |registration| {
            all.push((registration.policy(), registration.id().get()));
            all.len() <= LIST_MAX
        })
        .await;
        check_length(all.len(), "registrations")?;
        Ok(Said::one(&by_policy(all.into_iter())))
    }

    /// Shows the realm's registrations until `each` has enough. Others have their turn in between.
    pub(super) async fn visit_registrations(
        &self,
        caller: Caller,
        mut each: impl FnMut(Arc<Registration>) -> bool,
    ) {
        let mut after = Some(TopicCursor::default());
        while let Some(cursor) = after {
            let (page, next) = self.shards.directory().registrations(caller.realm, cursor, PAGE);
            for registration in page {
                if !each(registration) {
                    return;
                }
            }
            after = next;
            breathe().await;
        }
    }

    pub(super) fn lookup_registration(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(2, &[])?;
        let (pattern, policy) = (arguments.text(0, "a procedure")?, arguments.policy(1)?);
        uri::check_pattern(&pattern, policy, UriRule::Loose)
            .map_err(|why| Refused::new(error::INVALID_URI, format!("{pattern:?}: {why}")))?;
        let found = self.shards.directory().registration(caller.realm, policy, &pattern);
        Ok(Said::one(&found.map(|registration| registration.id().get())))
    }

    pub(super) fn match_registration(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let uri = arguments.uri(0, "a procedure")?;
        let found = self.registration_for(caller.realm, &uri);
        Ok(Said::one(&found.map(|registration| registration.id().get())))
    }

    /// The one that a call would go to: a pattern's callee gets only what its role might have registered by name.
    pub(super) fn registration_for(&self, realm: RealmId, uri: &str) -> Option<Arc<Registration>> {
        let core = self.core.load();
        let candidates = self.shards.directory().candidates(realm, uri);
        candidates.into_iter().find(|registration| {
            let may = |role| core.access.authorize(realm, role, Action::Register, uri);
            registration.policy() == uri::MatchPolicy::Exact
                || registration.callees().any(|callee| may(callee.role))
        })
    }

    pub(super) fn get_registration(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        Ok(Said::one(&EntryRow::of_registration(&*self.registration(caller, arguments)?)))
    }

    pub(super) async fn list_callees(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        let registration = self.registration(caller, arguments)?;
        let ids: Vec<u64> = registration.callees().map(|callee| callee.session.get()).collect();
        Ok(Said::one(&ids))
    }

    pub(super) async fn count_callees(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(1, &[])?;
        Ok(Said::one(&self.registration(caller, arguments)?.callees().count()))
    }

    pub(super) async fn remove_callee(
        &self,
        caller: Caller,
        arguments: &Arguments<'_>,
    ) -> Result<Said, Refused> {
        arguments.expect(3, &["reason"])?;
        let registration = self.registration(caller, arguments)?.id();
        let what = Revoked::Registration(registration.get());
        self.revoke(caller, arguments, what, "is no callee of").await
    }

    /// The registration of the first argument. One of another realm is none.
    fn registration(&self, caller: Caller, arguments: &Arguments<'_>) -> Result<Arc<Registration>, Refused> {
        let number = arguments.id(0, "registration")?;
        let found = RegistrationId::new(number).and_then(|id| self.shards.directory().registration_with(id));
        found.filter(|entry| entry.realm() == caller.realm).ok_or_else(|| {
            let words = format!("there is no registration {number} in this realm");
            Refused::new(error::NO_SUCH_REGISTRATION, words)
        })
    }
}
