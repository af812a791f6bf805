//! A contact's browsers: usually one or two, so a hash table would be mostly empty; thousands for shared accounts, so they are
//! sorted.

use crate::model::browser::BrowserKey;

/// Something that belongs to a browser.
pub(super) trait Keyed {
    /// The browser.
    fn key(&self) -> BrowserKey;
}

/// The browsers of a contact, in the order of their keys.
#[derive(Debug)]
pub(super) struct Browsers<T>(Vec<T>);

impl<T> Default for Browsers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Keyed> Browsers<T> {
    fn find(&self, key: BrowserKey) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, Keyed::key)
    }

    pub(super) fn get(&self, key: BrowserKey) -> Option<&T> {
        let index = self.find(key).ok()?;
        self.0.get(index)
    }

    pub(super) fn get_mut(&mut self, key: BrowserKey) -> Option<&mut T> {
        let index = self.find(key).ok()?;
        self.0.get_mut(index)
    }

    pub(super) fn contains(&self, key: BrowserKey) -> bool {
        self.find(key).is_ok()
    }

    /// Adds a browser, or replaces the one with that key.
    pub(super) fn insert(&mut self, browser: T) {
        match self.find(browser.key()) {
            Ok(index) => self.0[index] = browser,
            Err(index) => {
                if self.0.is_empty() {
                    // The default growth would allocate four.
                    self.0.reserve_exact(1);
                }
                self.0.insert(index, browser);
            }
        }
    }

    pub(super) fn remove(&mut self, key: BrowserKey) {
        if let Ok(index) = self.find(key) {
            self.0.remove(index);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (BrowserKey, u8) {
        fn key(&self) -> BrowserKey {
            self.0
        }
    }

    proptest! {
        #[test]
        fn they_behave_like_a_map(changes in prop::collection::vec((any::<bool>(), 0..20_u8, any::<u8>()), 0..100)) {
            let (mut browsers, mut map) = (Browsers::default(), BTreeMap::new());
            for (insert, key, value) in changes {
                let key = BrowserKey::new(&key.to_string());
                if insert {
                    browsers.insert((key, value));
                    map.insert(key, (key, value));
                } else {
                    browsers.remove(key);
                    map.remove(&key);
                }
                prop_assert_eq!(browsers.get(key), map.get(&key));
                prop_assert_eq!(browsers.get_mut(key), map.get_mut(&key));
                prop_assert_eq!(browsers.contains(key), map.contains_key(&key));
                prop_assert_eq!(browsers.is_empty(), map.is_empty());
                prop_assert!(browsers.iter().eq(map.values()));
            }
        }
    }
}
