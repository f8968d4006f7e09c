//! Making a store, and reading one from its beginning: which records live, and whether anything is missing.

use std::path::Path;
use std::sync::Arc;

use crypto::Secret;
use crypto::sealed_store::{SessionKey, StoreKeys};

use crate::disk::{Disk, Medium};
use crate::error::{FileError, OpenError};
use crate::format::{
    Base, FRAME_HEAD_BYTES, FRAMES_FROM, FrameHead, HEAD_BYTES, Head, Header, HeaderError, Kind,
    PAGE, open_session, push_session, split_record,
};
use crate::index::{FILE_BYTES_MAX, Index, Name, Place};
use crate::store::{StoreConfig, StoreState};
use crate::writer::{Writer, fresh_session, to_u64};

/// What an opened file gives.
pub(crate) struct Opened {
    pub(crate) keys: StoreKeys,
    pub(crate) header: Header,
    pub(crate) index: Index,
    pub(crate) writer: Writer,
    pub(crate) dropped_bytes: u64,
}

/// Makes an empty store: under another name first, so that a crash leaves none rather than half of one.
pub(crate) fn create(
    config: &StoreConfig,
    root: &Secret<32>,
    disk: &dyn Disk,
    path: &Path,
    new_path: &Path,
) -> Result<Opened, OpenError> {
    let mut store_id = [0; 16];
    getrandom::fill(&mut store_id).map_err(|_| OpenError::Randomness)?;
    let header = Header {
        deployment: config.deployment,
        role: config.role.code(),
        store_id,
        owner: config.owner.clone(),
    };
    let keys = StoreKeys::derive(root, &header.deployment, header.role, &header.store_id);
    let base = Base {
        state: StoreState {
            counter: 0,
            root: keys.chain(&[0; 32], &store_id),
        },
        live: 0,
        marks: Vec::new(),
    };
    let at = |action| move |error| OpenError::File(FileError::new(action, new_path, error));
    let file = disk.create(new_path).map_err(at("create"))?;
    let (salt, key) = fresh_session(&keys).map_err(|_| OpenError::Randomness)?;
    let mut frames = Vec::new();
    let plain = base.encode();
    push_session(&mut frames, &key, &salt, Kind::Base, &base.state, &plain);
    let end = FRAMES_FROM + to_u64(frames.len());
    let head = Head {
        state: base.state,
        end,
    };
    file.write(0, &header.seal(&keys)).map_err(at("write"))?;
    file.write(PAGE, &head.seal(&keys)).map_err(at("write"))?;
    file.write(FRAMES_FROM, &frames).map_err(at("write"))?;
    file.sync().map_err(at("sync"))?;
    disk.rename(new_path, path).map_err(at("rename"))?;
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(at("sync the folder of"))?;
    }
    let mut index = Index::new(file.clone(), hash_key()?);
    index.sessions.insert(FRAMES_FROM, key);
    Ok(Opened {
        keys,
        header,
        index,
        writer: Writer::new(file, base.state, end, [], true, false),
        dropped_bytes: 0,
    })
}

/// Reads a store that is there.
pub(crate) fn open(
    config: &StoreConfig,
    root: &Secret<32>,
    disk: &dyn Disk,
    path: &Path,
) -> Result<Opened, OpenError> {
    let at = |action| move |error| FileError::new(action, path, error);
    let file = disk.open(path).map_err(at("open"))?;
    let len = file.len().map_err(at("measure"))?.min(FILE_BYTES_MAX);
    let foreign = |reason| OpenError::Foreign {
        path: path.to_path_buf(),
        reason,
    };
    let mut page = vec![0; usize::try_from(PAGE).unwrap_or(0)];
    if file.read(0, &mut page).map_err(at("read"))? < page.len() {
        return Err(foreign("it ends within its header"));
    }
    let header = Header::decode(&page).map_err(|error| match error {
        HeaderError::NotAStore => foreign("it does not begin as a sealed store"),
        HeaderError::Malformed => foreign("its header does not parse"),
        HeaderError::Version(version) => OpenError::Version {
            path: path.to_path_buf(),
            version,
        },
    })?;
    if header.deployment != config.deployment {
        return Err(foreign("it is another deployment's"));
    }
    if header.role != config.role.code() || header.owner != config.owner {
        return Err(foreign("it is another role's or owner's"));
    }
    let keys = StoreKeys::derive(root, &header.deployment, header.role, &header.store_id);
    if !header.is_authentic(&keys, &page) {
        return Err(foreign("the platform's sealing key does not open it"));
    }
    let mut heads = Vec::new();
    for place in [PAGE, 2 * PAGE] {
        let mut bytes = [0; HEAD_BYTES];
        file.read(place, &mut bytes).map_err(at("read"))?;
        heads.extend(Head::open(&keys, &bytes).map(|head| (head, place)));
    }
    let newest = heads.into_iter().max_by_key(|(head, _)| head.state.counter);
    let (head, place) = newest.ok_or_else(|| foreign("neither of its heads is authentic"))?;

    let index = Index::new(file.clone(), hash_key()?);
    let mut scan = Scan::new(&keys, index, head);
    let mut window = Window::new(file.as_ref(), len);
    let sound = scan.run(&mut window).map_err(at("read"))?;
    let done = scan.committed;
    if !sound || done.state.counter < head.state.counter {
        return Err(OpenError::Damaged {
            path: path.to_path_buf(),
            found: done.state.counter.min(head.state.counter.saturating_sub(1)),
            acknowledged: head.state.counter,
        });
    }
    let dropped_bytes = len.saturating_sub(done.end);
    let trim = dropped_bytes > 0;
    let (index, marks) = (scan.index, scan.marks);
    Ok(Opened {
        header,
        index,
        // The next head goes where the newest is not.
        writer: Writer::new(file, done.state, done.end, marks, place == PAGE, trim),
        keys,
        dropped_bytes,
    })
}

fn hash_key() -> Result<[u8; 32], OpenError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|_| OpenError::Randomness)?;
    Ok(key)
}

/// A point up to which everything is whole.
#[derive(Clone, Copy)]
struct Committed {
    state: StoreState,
    end: u64,
}

enum Change {
    Put(Name, Place),
    Delete(Name),
    Mark(StoreState),
}

struct Scan<'a> {
    keys: &'a StoreKeys,
    head: Head,
    index: Index,
    marks: Vec<StoreState>,
    committed: Committed,
    /// State and session after the last frame that was read, and the changes of a batch that has not ended.
    state: StoreState,
    session: Option<(Arc<SessionKey>, u32)>,
    batch: Vec<Change>,
    /// Live records that the base still announces.
    live: u64,
}

impl<'a> Scan<'a> {
    fn new(keys: &'a StoreKeys, index: Index, head: Head) -> Self {
        let nothing = StoreState {
            counter: 0,
            root: [0; 32],
        };
        Self {
            keys,
            head,
            index,
            marks: Vec::new(),
            committed: Committed {
                state: nothing,
                end: 0,
            },
            state: nothing,
            session: None,
            batch: Vec::new(),
            live: 0,
        }
    }

    /// Reads frames until the end or the first that is not whole. False when the base or what it announces is not
    /// whole, or the history is not the head's.
    fn run(&mut self, window: &mut Window<'_>) -> std::io::Result<bool> {
        let mut offset = FRAMES_FROM;
        while let Some((head, frame)) = window.frame(offset)? {
            let end = offset + to_u64(frame.len());
            if self.frame(offset, end, &head, frame).is_none() {
                break;
            }
            let done = self.committed;
            let same = done.state.counter == self.head.state.counter;
            if same && done.end == end && done.state != self.head.state {
                return Ok(false);
            }
            offset = end;
        }
        Ok(self.committed.end > 0 && self.live == 0)
    }

    /// Takes one frame; `None` when it is not what must come here.
    fn frame(&mut self, offset: u64, end: u64, head: &FrameHead, frame: &[u8]) -> Option<()> {
        let body = frame.get(FRAME_HEAD_BYTES..)?;
        match head.kind {
            Kind::Base => return self.base(offset, end, head, body),
            Kind::Session => return self.begin(offset, head, frame, body),
            Kind::Put | Kind::Delete | Kind::Mark | Kind::Live => {}
        }
        let (key, next) = self.session.as_mut()?;
        if head.number != *next || (head.kind == Kind::Live) != (self.live > 0) {
            return None;
        }
        let plain = key.open(head.number, &head.encode(), body)?;
        *next = next.checked_add(1)?;
        let place = Place::new(offset, end - offset);
        if head.kind == Kind::Live {
            let (record, _) = split_record(&plain)?;
            let name = self.index.name(record);
            self.index.insert(name, place);
            self.live -= 1;
            self.committed.end = end;
            return Some(());
        }
        self.state.root = self.keys.chain(&self.state.root, frame);
        self.state.counter = self.state.counter.checked_add(1)?;
        self.batch.push(match head.kind {
            Kind::Put => Change::Put(self.index.name(split_record(&plain)?.0), place),
            Kind::Delete => Change::Delete(self.index.name(split_record(&plain)?.0)),
            _ => Change::Mark(self.state),
        });
        if !head.more {
            self.commit(end);
        }
        Some(())
    }

    fn commit(&mut self, end: u64) {
        for change in self.batch.drain(..) {
            match change {
                Change::Put(name, place) => self.index.insert(name, place),
                Change::Delete(name) => self.index.remove(&name),
                Change::Mark(state) => self.marks.push(state),
            }
        }
        self.committed = Committed {
            state: self.state,
            end,
        };
    }

    fn base(&mut self, offset: u64, end: u64, head: &FrameHead, body: &[u8]) -> Option<()> {
        if offset != FRAMES_FROM {
            return None;
        }
        let (key, plain) = open_session(self.keys, head, body, &self.state)?;
        let base = Base::decode(&plain)?;
        let key = Arc::new(key);
        self.index.sessions.insert(offset, key.clone());
        self.index.reserve(base.live);
        self.session = Some((key, 1));
        self.state = base.state;
        self.live = base.live;
        self.marks = base.marks;
        self.committed = Committed {
            state: base.state,
            end,
        };
        Some(())
    }

    fn begin(&mut self, offset: u64, head: &FrameHead, frame: &[u8], body: &[u8]) -> Option<()> {
        if !self.batch.is_empty() || self.live > 0 || self.session.is_none() {
            return None;
        }
        let (key, plain) = open_session(self.keys, head, body, &self.state)?;
        if !plain.is_empty() {
            return None;
        }
        let key = Arc::new(key);
        self.index.sessions.insert(offset, key.clone());
        self.session = Some((key, 1));
        self.state.root = self.keys.chain(&self.state.root, frame);
        Some(())
    }
}

/// The file, read in large pieces from front to back.
pub(crate) struct Window<'a> {
    file: &'a dyn Medium,
    len: u64,
    from: u64,
    bytes: Vec<u8>,
}

const WINDOW_BYTES: usize = 1 << 20;

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn Medium, len: u64) -> Self {
        Self {
            file,
            len,
            from: 0,
            bytes: Vec::new(),
        }
    }

    /// The frame at `offset` with its head; `None` when there is no whole one.
    fn frame(&mut self, offset: u64) -> std::io::Result<Option<(FrameHead, &[u8])>> {
        if !self.hold(offset, FRAME_HEAD_BYTES)? {
            return Ok(None);
        }
        let Some(head) = self
            .held(offset, FRAME_HEAD_BYTES)
            .and_then(|bytes| FrameHead::decode(bytes.first_chunk()?))
        else {
            return Ok(None);
        };
        let bytes = FRAME_HEAD_BYTES + head.body_bytes;
        if !self.hold(offset, bytes)? {
            return Ok(None);
        }
        Ok(self.held(offset, bytes).map(|frame| (head, frame)))
    }

    /// Has `bytes` at `offset` in memory; false when the file ends before.
    fn hold(&mut self, offset: u64, bytes: usize) -> std::io::Result<bool> {
        if self.held(offset, bytes).is_some() {
            return Ok(true);
        }
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        if left < bytes {
            return Ok(false);
        }
        self.bytes.resize(bytes.max(WINDOW_BYTES).min(left), 0);
        self.from = offset;
        let got = self.file.read(offset, &mut self.bytes)?;
        self.bytes.truncate(got);
        Ok(got >= bytes)
    }

    fn held(&self, offset: u64, bytes: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        self.bytes.get(from..from.checked_add(bytes)?)
    }
}
