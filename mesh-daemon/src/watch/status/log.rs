//! What the log says of writes to the API server: each trouble once, and when it is over.

use std::collections::BTreeMap;

use super::{exchange::Trouble, write::Object};

/// Says each trouble once, and when it is over.
#[derive(Default)]
pub(super) struct Log {
    troubles: BTreeMap<Object, &'static str>,
}

/// What there is to say of a kind of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A trouble began, or another one took its place.
    Trouble,
    /// The last trouble is over.
    Well,
}

impl Log {
    /// Takes in what is wrong with a write, if anything is, and whether nothing of its kind is in trouble any more.
    pub(super) fn tell(&mut self, object: Object, trouble: Option<&Trouble>, is_well: bool) {
        let what = object.title();
        match (self.news(object, trouble, is_well), trouble) {
            (Some(News::Trouble), Some(Trouble { name, detail })) => {
                tracing::warn!(reason = name, "cannot write {what}: {detail}; traffic itself goes on");
            }
            (Some(News::Well), _) => tracing::info!("it can be written again: {what}"),
            _ => {}
        }
    }

    /// What there is to say.
    pub(super) fn news(&mut self, object: Object, trouble: Option<&Trouble>, is_well: bool) -> Option<News> {
        match trouble {
            Some(trouble) => {
                (self.troubles.insert(object, trouble.name) != Some(trouble.name)).then_some(News::Trouble)
            }
            None if is_well => self.troubles.remove(&object).map(|_| News::Well),
            None => None,
        }
    }
}
