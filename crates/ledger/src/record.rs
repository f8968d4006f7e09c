//! How a record of the ledger is declared: its type, its bound and its fields, once. `custody` declares its own the same way.

use records::RecordError;

/// A structure with one deterministic encoding, decoded strictly.
pub trait Record: Sized {
    /// The deterministic bytes.
    fn encode(&self) -> Vec<u8>;

    /// Reads them strictly.
    ///
    /// # Errors
    /// [`RecordError`].
    fn decode(bytes: &[u8]) -> Result<Self, RecordError>;
}

/// Declares a public struct and its [`Record`] implementation: dag-cbor with the fields' names as keys, `type` and `v`. The
/// crate that calls it depends on `records` and `serde`.
#[doc(hidden)]
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        $name:ident = $kind:literal, $max:expr;
        $( $(#[doc = $doc:expr])* $(#[serde($($serde:tt)*)])? $field:ident: $type:ty, )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        const _: () = {
            use records::codec;

            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Wire {
                #[serde(rename = "type")]
                kind: codec::TypeName<Wire>,
                v: codec::V1,
                $( $(#[serde($($serde)*)])? $field: $type, )*
            }

            impl codec::Typed for Wire {
                const TYPE: &'static str = $kind;
                const BYTES_MAX: usize = $max;
            }

            impl $crate::record::Record for $name {
                fn encode(&self) -> Vec<u8> {
                    codec::encode(&Wire {
                        kind: codec::TypeName::new(),
                        v: codec::V1,
                        $( $field: self.$field.clone(), )*
                    })
                }

                fn decode(bytes: &[u8]) -> Result<Self, records::RecordError> {
                    let wire: Wire = codec::decode(bytes)?;
                    Ok(Self { $( $field: wire.$field, )* })
                }
            }
        };
    };
}
#[doc(hidden)]
pub use record;

/// Makes a record one that its author signs. The crate that calls it depends on `crypto`, `domain`, `records` and `sealed`.
#[doc(hidden)]
#[macro_export]
macro_rules! signed_by {
    ($name:ident, $field:ident, $label:expr) => {
        impl sealed::signed::Content for $name {
            const LABEL: crypto::Label = $label;

            fn author(&self) -> domain::Principal {
                self.$field
            }

            fn encode(&self) -> Vec<u8> {
                $crate::record::Record::encode(self)
            }

            fn decode(body: &[u8]) -> Result<Self, records::RecordError> {
                $crate::record::Record::decode(body)
            }
        }
    };
}
#[doc(hidden)]
pub use signed_by;
