//! Columns, as kubectl prints them.

use crate::{
    ids::ObjectRef,
    model::{ConditionView, plain},
};

/// Between two columns.
const GAP: usize = 3;

/// Rows of cells below their headings. Control characters of names and messages are escaped: an object's author must not write to the terminal.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const COLUMNS: usize>(headings: [&str; COLUMNS]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).into()],
        }
    }

    /// One more row.
    pub(super) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// As text; no line ends in spaces.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths);
            let padded: String = cells.map(|(cell, width)| format!("{cell:<0$}", width + GAP)).collect();
            format!("{}\n", padded.trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// What stands where there is nothing.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A rule as `shop/web#0`, with its name if it has one.
pub(super) fn rule(route: &ObjectRef, index: usize, name: Option<&str>) -> String {
    let name = name.map(|name| format!("({name})")).unwrap_or_default();
    format!("{route}#{index}{name}")
}

/// Status, reason and message of a condition, behind its type.
pub(super) fn condition(condition: &ConditionView) -> [String; 4] {
    let ConditionView {
        kind,
        status,
        reason,
        message,
    } = condition;
    [kind, status, reason, message].map(Clone::clone)
}

/// A number of things: `1 request`, `2 requests`.
pub(super) fn counted(number: u32, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["A", "LONG", "C"]);
        assert!(table.is_empty());
        table.row(["é".to_owned(), "x".to_owned(), "-".to_owned()]);
        table.row(["abcd".to_owned(), "y\n\u{1b}[0m".to_owned(), String::new()]);
        assert_eq!(
            table.text(),
            "A      LONG           C\né      x              -\nabcd   y\\n\\u{1b}[0m\n"
        );
    }
}
