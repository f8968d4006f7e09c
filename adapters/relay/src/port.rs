//! The view behind the port that `custody` judges through.

use custody::LedgerView;
use domain::{Height, TimestampMs};
use ledger::{Certificate, Header, HeaderError};

use crate::View;

impl LedgerView for View {
    fn newest(&self) -> Option<Header> {
        self.newest()
    }

    fn time(&self) -> TimestampMs {
        self.time()
    }

    fn started(&self) -> Option<TimestampMs> {
        self.started()
    }

    fn floor(&self) -> Height {
        self.floor()
    }

    fn is_fresh(&self) -> bool {
        self.is_fresh()
    }

    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        self.admit(header, certificate)
    }

    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError> {
        self.confirm(header, certificate)
    }
}
