//! Samples by the values of some columns, for whoever treats groups alike.

use std::collections::BTreeMap;

use ff_core::{UNKNOWN, text};

use crate::error::{Error, Result};
use crate::manifest::Manifest;

/// Which group every row belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// A place among the names a row, (N,); [`UNKNOWN`] where a column's value is not known.
    pub ids: Vec<u32>,
    /// The groups that have rows, sorted: their values with ` & ` between them.
    pub names: Vec<String>,
}

impl Manifest {
    /// The rows by the values of these columns together: tasks or others, as [`Manifest::column`] finds them.
    ///
    /// # Errors
    /// [`Error::Config`] names a column that there is not.
    pub fn groups(&self, columns: &[String]) -> Result<Groups> {
        let values = columns.iter().map(|name| {
            let values: Vec<&str> = self.column(name).ok_or_else(|| self.no_column(name))?.collect();
            Ok(values)
        });
        let values: Vec<Vec<&str>> = values.collect::<Result<_>>()?;
        let name = |row: usize| {
            let of_row: Vec<&str> = values.iter().map(|column| column[row]).collect();
            (!of_row.contains(&"")).then(|| of_row.join(" & "))
        };
        let of_rows: Vec<Option<String>> = (0..self.len()).map(name).collect();
        let mut places: BTreeMap<&str, u32> =
            of_rows.iter().flatten().map(|name| (name.as_str(), 0)).collect();
        places.values_mut().zip(0..).for_each(|(place, i)| *place = i);
        let ids = of_rows.iter().map(|name| name.as_deref().map_or(UNKNOWN, |name| places[name])).collect();
        Ok(Groups { ids, names: places.keys().map(|&name| name.to_owned()).collect() })
    }

    fn no_column(&self, found: &str) -> Error {
        let known = text::either(&self.column_names());
        let path = self.path().display();
        Error::Config(format!("{path}: expected a column to group by: {known}, found {found}"))
    }
}

#[cfg(test)]
mod tests {
    use ff_core::Schema;

    use super::*;

    #[test]
    fn rows_are_grouped_by_tasks_and_other_columns_and_what_is_not_known_is_in_no_group() {
        let csv = "file,age,gender,race,camera\na,3-9,Male,White,b\nb,3-9,Male,Black,a\nc,3-9,,White,a\n\
                   d,0-2,Male,White,b\n";
        let manifest = Manifest::parse("x.csv", csv.as_bytes(), &Schema::fairface()).unwrap();
        let groups =
            |columns: &[&str]| manifest.groups(&columns.iter().map(ToString::to_string).collect::<Vec<_>>());
        let found = groups(&["camera", "race"]).unwrap();
        assert_eq!(found.names, ["a & Black", "a & White", "b & White"]);
        assert_eq!(found.ids, [2, 0, 1, 2]);
        assert_eq!(groups(&["gender"]).unwrap().ids, [0, 0, UNKNOWN, 0]);
        let message = groups(&["phone"]).unwrap_err().to_string();
        assert_eq!(message, "x.csv: expected a column to group by: age, gender, race or camera, found phone");
    }
}
