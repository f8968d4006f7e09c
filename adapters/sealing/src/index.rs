//! Where each live record lies.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crypto::sealed_store::SessionKey;

use crate::disk::Medium;

/// 16 bytes of a keyed hash of the record's key: a million records take some 50 MB, whatever their keys' length. The
/// record itself says whose it is.
pub(crate) type Name = [u8; 16];

/// A frame's place: 40 bits of offset, 24 of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

/// A file never grows beyond this: what [`Place`] can hold.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 40;

impl Place {
    pub(crate) fn new(offset: u64, bytes: u64) -> Self {
        Self(offset << 24 | bytes & 0xff_ffff)
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 >> 24
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0 & 0xff_ffff
    }
}

/// The live records of one file.
pub(crate) struct Index {
    pub(crate) file: Arc<dyn Medium>,
    /// Each session's key by the offset from which it holds.
    pub(crate) sessions: BTreeMap<u64, Arc<SessionKey>>,
    places: HashMap<Name, Place>,
    live_bytes: u64,
    /// Drawn at each opening: nobody can choose keys that collide.
    hash_key: [u8; 32],
}

impl Index {
    pub(crate) fn new(file: Arc<dyn Medium>, hash_key: [u8; 32]) -> Self {
        Self {
            file,
            sessions: BTreeMap::new(),
            places: HashMap::new(),
            live_bytes: 0,
            hash_key,
        }
    }

    /// An empty one for another file, with the same hash key.
    pub(crate) fn successor(&self, file: Arc<dyn Medium>) -> Self {
        Self::new(file, self.hash_key)
    }

    pub(crate) fn name(&self, key: &[u8]) -> Name {
        let hash = blake3::keyed_hash(&self.hash_key, key);
        let mut name = [0; 16];
        name.iter_mut()
            .zip(hash.as_bytes())
            .for_each(|(to, from)| *to = *from);
        name
    }

    pub(crate) fn get(&self, name: &Name) -> Option<Place> {
        self.places.get(name).copied()
    }

    pub(crate) fn session(&self, offset: u64) -> Option<Arc<SessionKey>> {
        let (_, key) = self.sessions.range(..=offset).next_back()?;
        Some(key.clone())
    }

    /// Every live record's place, by offset, with what it takes to read it.
    pub(crate) fn in_order(&self) -> Vec<(Arc<dyn Medium>, Arc<SessionKey>, Place)> {
        let mut places: Vec<Place> = self.places.values().copied().collect();
        places.sort_unstable_by_key(|place| place.offset());
        places
            .into_iter()
            .filter_map(|place| Some((self.file.clone(), self.session(place.offset())?, place)))
            .collect()
    }

    pub(crate) fn insert(&mut self, name: Name, place: Place) {
        self.live_bytes += place.bytes();
        if let Some(old) = self.places.insert(name, place) {
            self.live_bytes -= old.bytes();
        }
    }

    pub(crate) fn remove(&mut self, name: &Name) {
        if let Some(old) = self.places.remove(name) {
            self.live_bytes -= old.bytes();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Room for as many records as a base announces, within reason.
    pub(crate) fn reserve(&mut self, records: u64) {
        let records = usize::try_from(records).unwrap_or(0).min(1 << 20);
        self.places.reserve(records);
    }
}
