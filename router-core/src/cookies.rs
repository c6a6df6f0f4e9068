//! Logins by cookie: who has logged in by another method is let in again by the cookie of its connection.
//!
//! ```text
//! handshake: the client's cookie, or a new one ─▶ bind_cookie
//! login by another method ─▶ remembered by it ─▶ HELLO with `cookie` on a later connection ─▶ WELCOME
//!                                             └▶ GOODBYE wamp.close.logout: forgotten, and its sessions end
//! ```
//!
//! What is remembered is shared by all shards ([`Cookies`](crate::directory::Cookies)). Which origins may bring a cookie is decided
//! before, at the handshake.

use fanwire_codec::wamp2::HelloDetails;

use crate::clock::Instant;
use crate::delivery::Outlet;
use crate::directory::{Cookie, CookieBounds, CookieId};
use crate::encoding::Encoding;
use crate::ids::{RealmId, SessionId};
use crate::lanes::Item;
use crate::login::{CookiePart, Entrance, LoginMethod};
use crate::session::{State, error};
use crate::shard::{Effect, Shard};

impl Shard {
    /// Bytes for the value of a cookie.
    pub fn new_cookie(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&(self.random)().to_ne_bytes());
        }
        bytes
    }

    /// Whether somebody is remembered by it.
    pub fn knows_cookie(&self, now: Instant, id: CookieId) -> bool {
        self.directory.cookies().knows(id, now)
    }

    /// The cookie of a connection. Told before its first message.
    pub fn bind_cookie(&mut self, outlet: Outlet, cookie: Cookie) {
        if let Some(session) = self.session_mut(outlet)
            && session.state == State::Waiting
            && matches!(session.encoding, Encoding::Wamp2(..))
        {
            session.words.get_or_insert_default().cookie = Some(cookie);
        }
    }

    /// Somebody who says HELLO and is remembered, as whom it wants to come in. Wherever `cookie` stands in its list.
    pub(crate) fn remembered(
        &self,
        now: Instant,
        outlet: Outlet,
        realm: RealmId,
        details: &HelloDetails<'_>,
    ) -> Option<Entrance> {
        let access = &self.config.access;
        if !access.offers(realm, LoginMethod::Cookie)
            || !details.authmethods.iter().any(|name| name == LoginMethod::Cookie.name())
        {
            return None;
        }
        let cookie = self.session(outlet)?.cookie()?;
        let login = self.directory.cookies().find(cookie.id, realm, now)?;
        let authid = details.authid.as_deref().filter(|authid| !authid.is_empty());
        let is_meant = authid.is_none_or(|authid| *authid == *login.authid);
        (is_meant && access.has_role(realm, login.role)).then(|| Entrance::remembered(login))
    }

    /// The session is open: by its cookie, or by what it may be remembered by from now on.
    pub(crate) fn note_login(&mut self, now: Instant, outlet: Outlet, part: CookiePart) {
        let Some(session) = self.session(outlet) else { return };
        let (id, realm) = (session.id, session.realm);
        let Some(cookie) = session.cookie() else { return };
        match part {
            CookiePart::None | CookiePart::Asked | CookiePart::Looked(_) => {}
            CookiePart::ToRemember(login, epoch) => {
                let Some(time) = self.config.access.cookie_time(realm) else { return };
                let bounds = CookieBounds { time, bytes_max: self.config.limits.cookie_bytes_max };
                self.directory.cookies().remember(cookie, *login, id, epoch, now, bounds);
            }
            CookiePart::Remembered(login) => {
                // It was logged out while a hook was asked, or others were faster to have the last places.
                if !self.directory.cookies().join(cookie.id, &login, id) {
                    self.end_logged_out(now, id);
                }
            }
        }
    }

    /// The session is not remembered any more, nor are the others by its cookie, which end.
    pub(crate) fn log_out(&mut self, now: Instant, outlet: Outlet) {
        let Some(session) = self.session(outlet) else { return };
        let Some(cookie) = session.cookie() else { return };
        let others =
            self.directory.cookies().log_out(cookie.id, (session.realm, &session.authid()), session.id);
        for other in others {
            match self.directory.session(other).map(|entry| entry.shard) {
                Some(shard) if shard == self.id => self.end_logged_out(now, other),
                Some(shard) => self.lanes.stage(shard, Item::LoggedOut(other)),
                None => {}
            }
        }
    }

    /// GOODBYE to a session of this shard, if it still is there.
    pub(crate) fn end_logged_out(&mut self, now: Instant, session: SessionId) {
        let Some(outlet) = self.outlets.get(&session).copied() else { return };
        let words = "the login that this session was let in by has ended: log in anew";
        self.say_goodbye(now, outlet, error::CLOSE_LOGOUT, words, 1000);
        self.effects.push(Effect::Dismissed(outlet));
    }
}
