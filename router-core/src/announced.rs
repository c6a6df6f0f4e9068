//! What a client's HELLO announces and the router asks for later, in two bytes: there are very many idle sessions.

use fanwire_codec::wamp2::{Feature, FeatureSet, Roles};

/// The features that matter to dealer and broker, of the roles *caller*, *callee* and *subscriber* (WAMP, "Feature Announcement").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Announced(u16);

/// Each has the bit of its place.
const OF_CALLEES: [Feature; 7] = [
    Feature::CallCanceling,
    Feature::CallReroute,
    Feature::CallTimeout,
    Feature::PayloadPassthruMode,
    Feature::ProgressiveCallInvocations,
    Feature::ProgressiveCallResults,
    Feature::RegistrationRevocation,
];
/// Those that callers must have announced before they may use them; they follow those of callees.
const OF_CALLERS: [Feature; 2] = [Feature::ProgressiveCallInvocations, Feature::PayloadPassthruMode];
/// What subscribers may be told; it follows those.
const OF_SUBSCRIBERS: [Feature; 1] = [Feature::SubscriptionRevocation];
/// What publishers must have announced before they may use it; it follows that.
const OF_PUBLISHERS: [Feature; 1] = [Feature::PayloadPassthruMode];

const CALLERS_AT: usize = OF_CALLEES.len();
const SUBSCRIBERS_AT: usize = CALLERS_AT + OF_CALLERS.len();
const PUBLISHERS_AT: usize = SUBSCRIBERS_AT + OF_SUBSCRIBERS.len();
const _: () = assert!(PUBLISHERS_AT + OF_PUBLISHERS.len() <= u16::BITS as usize, "each feature has a bit");

impl Announced {
    /// What HELLO says.
    pub(crate) fn of(roles: &Roles) -> Self {
        let announced = |features: Option<FeatureSet>, asked: &[Feature]| {
            let has = |feature| features.is_some_and(|features| features.contains(feature));
            asked
                .iter()
                .enumerate()
                .fold(0, |bits, (place, feature)| bits | u16::from(has(*feature)) << place)
        };
        Self(
            announced(roles.callee, &OF_CALLEES)
                | announced(roles.caller, &OF_CALLERS) << CALLERS_AT
                | announced(roles.subscriber, &OF_SUBSCRIBERS) << SUBSCRIBERS_AT
                | announced(roles.publisher, &OF_PUBLISHERS) << PUBLISHERS_AT,
        )
    }

    /// Whether the callee has this feature, which is one of those that are kept.
    pub(crate) fn as_callee(self, feature: Feature) -> bool {
        let place = OF_CALLEES.iter().position(|kept| *kept == feature).expect("it is kept");
        self.has(place)
    }

    fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }

    /// Whether the publisher may publish what only its receivers understand.
    pub(crate) fn publishes_passthru(self) -> bool {
        self.has(PUBLISHERS_AT)
    }

    /// Whether the caller may say, and is told, what only it and the callee understand.
    pub(crate) fn calls_passthru(self) -> bool {
        self.has(CALLERS_AT + 1)
    }

    /// Whether it understands that a subscription is taken from it.
    pub(crate) fn subscription_revocation(self) -> bool {
        self.has(SUBSCRIBERS_AT)
    }

    /// Whether the caller may send a call in parts.
    pub(crate) fn calls_in_parts(self) -> bool {
        self.has(CALLERS_AT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_announces_for_itself() {
        let set = FeatureSet::of(&[Feature::ProgressiveCallInvocations, Feature::CallCanceling]);
        let as_callee = Announced::of(&Roles { callee: Some(set), ..Roles::default() });
        assert!(as_callee.as_callee(Feature::ProgressiveCallInvocations));
        assert!(as_callee.as_callee(Feature::CallCanceling));
        assert!(!as_callee.as_callee(Feature::CallTimeout) && !as_callee.calls_in_parts());
        let as_caller = Announced::of(&Roles { caller: Some(set), ..Roles::default() });
        assert!(as_caller.calls_in_parts() && !as_caller.as_callee(Feature::CallCanceling));
        let set = FeatureSet::of(&[Feature::SubscriptionRevocation]);
        let as_subscriber = Announced::of(&Roles { subscriber: Some(set), ..Roles::default() });
        assert!(as_subscriber.subscription_revocation() && !as_subscriber.calls_in_parts());
        assert!(!as_caller.subscription_revocation() && !as_callee.subscription_revocation());
        let set = FeatureSet::of(&[Feature::PayloadPassthruMode]);
        let announced = |roles| {
            let announced = Announced::of(&roles);
            let as_callee = announced.as_callee(Feature::PayloadPassthruMode);
            (announced.publishes_passthru(), announced.calls_passthru(), as_callee)
        };
        assert_eq!(announced(Roles { publisher: Some(set), ..Roles::default() }), (true, false, false));
        assert_eq!(announced(Roles { caller: Some(set), ..Roles::default() }), (false, true, false));
        assert_eq!(announced(Roles { callee: Some(set), ..Roles::default() }), (false, false, true));
        assert_eq!(announced(Roles { subscriber: Some(set), ..Roles::default() }), (false, false, false));
        assert_eq!(Announced::of(&Roles::CLIENT), Announced::default());
    }
}
