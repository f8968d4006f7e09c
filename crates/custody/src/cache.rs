//! A bounded memory of things that were verified and never change, by the hash of their bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Two generations: when the younger is full it becomes the older, and what was not asked for meanwhile is forgotten.
#[derive(Debug)]
pub struct Cache<T> {
    generations: Mutex<Generations<T>>,
    half: usize,
}

#[derive(Debug)]
struct Generations<T> {
    young: HashMap<[u8; 32], Arc<T>>,
    old: HashMap<[u8; 32], Arc<T>>,
}

impl<T> Cache<T> {
    /// At most twice `half` entries.
    #[must_use]
    pub fn new(half: usize) -> Self {
        Self {
            generations: Mutex::new(Generations {
                young: HashMap::new(),
                old: HashMap::new(),
            }),
            half,
        }
    }

    /// What was made of `bytes` before, or what `make` makes now. Only what was made well is remembered. `make` runs outside of the
    /// lock, perhaps twice at once.
    ///
    /// # Errors
    /// What `make` gives.
    pub fn get_or<E>(
        &self,
        bytes: &[u8],
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let name = *blake3::hash(bytes).as_bytes();
        if let Some(known) = self.lock(|generations| {
            let known = generations.young.get(&name).cloned();
            known.or_else(|| {
                let known = generations.old.remove(&name)?;
                generations.keep(self.half, name, known.clone());
                Some(known)
            })
        }) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        self.lock(|generations| generations.keep(self.half, name, made.clone()));
        Ok(made)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock(|generations| generations.young.len() + generations.old.len())
    }

    fn lock<R>(&self, act: impl FnOnce(&mut Generations<T>) -> R) -> R {
        act(&mut self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> Generations<T> {
    fn keep(&mut self, half: usize, name: [u8; 32], value: Arc<T>) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let cache: Cache<u32> = Cache::new(4);
        let get = |number: u32| cache.get_or(&number.to_be_bytes(), || Err::<u32, ()>(()));
        for number in 0..100 {
            assert!(get(number).is_err(), "a failure is not remembered");
            cache
                .get_or(&number.to_be_bytes(), || Ok::<_, ()>(number))
                .unwrap();
            assert_eq!(get(number).as_deref(), Ok(&number));
            assert_eq!(get(0).as_deref(), Ok(&0), "asked for all the time");
            assert!(cache.len() <= 8);
        }
        assert!(get(50).is_err());
    }
}
