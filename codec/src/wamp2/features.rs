//! Features that peers announce per role in HELLO and WELCOME (WAMP, "Features").

/// One announced feature. The variant's name is its name on the wire in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the feature of that name in WAMP's advanced profile")]
pub enum Feature {
    CallCanceling,
    CallReroute,
    CallTimeout,
    CallTrustlevels,
    CallerIdentification,
    EventHistory,
    EventRetention,
    PatternBasedRegistration,
    PatternBasedSubscription,
    PayloadPassthruMode,
    ProcedureReflection,
    ProgressiveCallInvocations,
    ProgressiveCallResults,
    PublicationTrustlevels,
    PublisherExclusion,
    PublisherIdentification,
    RegistrationMetaApi,
    RegistrationRevocation,
    SessionMetaApi,
    ShardedRegistration,
    ShardedSubscription,
    SharedRegistration,
    SubscriberBlackwhiteListing,
    SubscriptionMetaApi,
    SubscriptionRevocation,
    TestamentMetaApi,
    TopicReflection,
    XAcknowledgedEventDelivery,
}

/// Features in the order of their discriminants, with their wire names.
const ALL: [(Feature, &str); 28] = [
    (Feature::CallCanceling, "call_canceling"),
    (Feature::CallReroute, "call_reroute"),
    (Feature::CallTimeout, "call_timeout"),
    (Feature::CallTrustlevels, "call_trustlevels"),
    (Feature::CallerIdentification, "caller_identification"),
    (Feature::EventHistory, "event_history"),
    (Feature::EventRetention, "event_retention"),
    (Feature::PatternBasedRegistration, "pattern_based_registration"),
    (Feature::PatternBasedSubscription, "pattern_based_subscription"),
    (Feature::PayloadPassthruMode, "payload_passthru_mode"),
    (Feature::ProcedureReflection, "procedure_reflection"),
    (Feature::ProgressiveCallInvocations, "progressive_call_invocations"),
    (Feature::ProgressiveCallResults, "progressive_call_results"),
    (Feature::PublicationTrustlevels, "publication_trustlevels"),
    (Feature::PublisherExclusion, "publisher_exclusion"),
    (Feature::PublisherIdentification, "publisher_identification"),
    (Feature::RegistrationMetaApi, "registration_meta_api"),
    (Feature::RegistrationRevocation, "registration_revocation"),
    (Feature::SessionMetaApi, "session_meta_api"),
    (Feature::ShardedRegistration, "sharded_registration"),
    (Feature::ShardedSubscription, "sharded_subscription"),
    (Feature::SharedRegistration, "shared_registration"),
    (Feature::SubscriberBlackwhiteListing, "subscriber_blackwhite_listing"),
    (Feature::SubscriptionMetaApi, "subscription_meta_api"),
    (Feature::SubscriptionRevocation, "subscription_revocation"),
    (Feature::TestamentMetaApi, "testament_meta_api"),
    (Feature::TopicReflection, "topic_reflection"),
    (Feature::XAcknowledgedEventDelivery, "x_acknowledged_event_delivery"),
];

impl Feature {
    /// The key in the role's `features` dictionary.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// The feature of this name, if it is one of ours; others are ignored (WAMP, "Extensibility").
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(feature, _)| *feature)
    }
}

/// A set of features, 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeatureSet(u32);

const _: () = assert!(ALL.len() <= u32::BITS as usize, "each feature has a bit");

impl FeatureSet {
    /// No features: the basic profile.
    pub const EMPTY: Self = Self(0);

    /// The set with exactly these.
    pub const fn of(features: &[Feature]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < features.len() {
            bits |= 1 << features[index] as u32;
            index += 1;
        }
        Self(bits)
    }

    /// Adds one.
    pub fn insert(&mut self, feature: Feature) {
        self.0 |= 1 << feature as u32;
    }

    /// Whether it is announced.
    pub fn contains(self, feature: Feature) -> bool {
        self.0 >> feature as u32 & 1 == 1
    }

    /// Whether none is announced.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The announced ones, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        ALL.into_iter().map(|(feature, _)| feature).filter(move |feature| self.contains(*feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, (feature, name)) in ALL.into_iter().enumerate() {
            assert_eq!(feature as usize, index);
            assert_eq!(feature.name(), name);
            assert_eq!(Feature::from_name(name), Some(feature));
        }
    }

    #[test]
    fn sets_remember_what_was_put_in() {
        let mut set = FeatureSet::of(&[Feature::CallTimeout, Feature::XAcknowledgedEventDelivery]);
        set.insert(Feature::CallCanceling);
        let names: Vec<_> = set.iter().map(Feature::name).collect();
        assert_eq!(names, ["call_canceling", "call_timeout", "x_acknowledged_event_delivery"]);
        assert!(FeatureSet::EMPTY.is_empty() && !set.is_empty());
    }
}
