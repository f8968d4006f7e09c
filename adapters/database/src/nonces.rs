//! Nonces of signed requests: each is spent once, in the transaction of its mutation.

use domain::TimestampMs;
use objects::metadata::{MetadataError, Mutation};

use crate::connection::{Connection, Work, args};

/// A nonce that was checked and is written together with the mutation.
pub(crate) struct Nonce<'m>(&'m Mutation);

/// Checks that the mutation's nonce is new.
pub(crate) async fn spend_nonce<'m>(c: &mut Connection, m: &'m Mutation) -> Work<Nonce<'m>> {
    if let Some(nonce) = &m.nonce {
        let spent = c
            .row(
                "SELECT expires_ms FROM nonces WHERE expires_ms = $1 AND principal = $2 AND nonce = $3",
                args![nonce.expires, nonce.principal, &nonce.nonce],
            )
            .await?;
        if spent.is_some() {
            return Err(MetadataError::Replayed.into());
        }
    }
    Ok(Nonce(m))
}

impl Nonce<'_> {
    pub(crate) async fn write(self, c: &mut Connection) -> Work<()> {
        if let Some(nonce) = &self.0.nonce {
            c.execute(
                "INSERT INTO nonces (expires_ms, principal, nonce) VALUES ($1, $2, $3)",
                args![nonce.expires, nonce.principal, &nonce.nonce],
            )
            .await?;
        }
        Ok(())
    }
}

/// See [`objects::metadata::Metadata::expire_nonces`].
pub(crate) async fn expire_nonces(c: &mut Connection, now: TimestampMs) -> Work<u64> {
    const AT_ONCE: i64 = 5_000;
    c.execute(
        "DELETE FROM nonces WHERE (expires_ms, principal, nonce) IN \
         (SELECT expires_ms, principal, nonce FROM nonces WHERE expires_ms < $1 \
         ORDER BY expires_ms, principal, nonce LIMIT $2)",
        args![now, AT_ONCE],
    )
    .await
}
