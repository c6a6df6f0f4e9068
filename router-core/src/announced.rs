//! What a client's HELLO announces and the router asks for later, in two bytes: there are very many idle sessions.

use fanwire_codec::wamp2::{Feature, FeatureSet, Roles};

/// The features that matter to dealer and broker, of the roles *caller*, *callee* and *subscriber* (WAMP, "Feature Announcement").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Announced(u16);

/// Each has the bit of its place.
const OF_CALLEES: [Feature; 6] = [
    Feature::CallCanceling,
    Feature::CallReroute,
    Feature::CallTimeout,
    Feature::ProgressiveCallInvocations,
    Feature::ProgressiveCallResults,
    Feature::RegistrationRevocation,
];
/// The one that callers must have announced before they may use it; it follows those of callees.
const OF_CALLERS: [Feature; 1] = [Feature::ProgressiveCallInvocations];
/// What subscribers may be told; it follows that.
const OF_SUBSCRIBERS: [Feature; 1] = [Feature::SubscriptionRevocation];

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
                | announced(roles.caller, &OF_CALLERS) << OF_CALLEES.len()
                | announced(roles.subscriber, &OF_SUBSCRIBERS) << (OF_CALLEES.len() + OF_CALLERS.len()),
        )
    }

    /// Whether the callee has this feature, which is one of those that are kept.
    pub(crate) fn as_callee(self, feature: Feature) -> bool {
        let place = OF_CALLEES.iter().position(|kept| *kept == feature).expect("it is kept");
        self.0 >> place & 1 == 1
    }

    /// Whether it understands that a subscription is taken from it.
    pub(crate) fn subscription_revocation(self) -> bool {
        self.0 >> (OF_CALLEES.len() + OF_CALLERS.len()) & 1 == 1
    }

    /// Whether the caller may send a call in parts.
    pub(crate) fn calls_in_parts(self) -> bool {
        self.0 >> OF_CALLEES.len() & 1 == 1
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
        assert_eq!(Announced::of(&Roles::CLIENT), Announced::default());
    }
}
