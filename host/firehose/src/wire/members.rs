//! How structures of the API are written down: members are options under the name they have on the wire.

/// Members that are given replace those that were there.
pub(crate) trait Overlay {
    fn overlay(&mut self, over: Self);
}

/// A structure of the API, with the member's name on the wire after each.
macro_rules! members {
    ($(#[$meta:meta])* $name:ident { $($member:ident: $type:ty = $wire:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        pub struct $name {
            $(
                #[serde(rename = $wire, skip_serializing_if = "Option::is_none")]
                pub $member: Option<$type>,
            )+
        }

        impl crate::wire::Overlay for $name {
            fn overlay(&mut self, over: Self) {
                $(if over.$member.is_some() {
                    self.$member = over.$member;
                })+
            }
        }
    };
}

pub(super) use members;
