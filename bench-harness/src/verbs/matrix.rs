//! Which matrix, drivers and directory a verb works on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::error::{BenchError, BenchErrorKind, Result};
use crate::matrix::Matrix;
use crate::matrix::expand::{PlannedCell, cells};
use crate::{driver, suggest};

/// What to measure, and where.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// default, quick, full, operations, peers, ratios, transports, or the path of a .toml file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub matrix: String,

    /// Only this driver; may be given several times.
    #[arg(long = "driver", value_name = "NAME", value_delimiter = ',')]
    pub drivers: Vec<String>,

    /// Directory for layers and branches; decides the file system of the backing `dir`.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,
}

/// The matrix and its cells, less the drivers that are not wanted.
///
/// # Errors
///
/// `Config`: no such matrix, or a driver that is not in it.
pub fn planned(args: &MatrixArgs, budget: Option<Duration>) -> Result<(Matrix, Vec<PlannedCell>)> {
    let matrix = Matrix::load(&args.matrix)?;
    for name in &args.drivers {
        let config = |message| Err(BenchError::new("choose driver", name, BenchErrorKind::Config(message)));
        if driver::by_name(name).is_none() {
            return config(suggest::unknown("driver", name, &driver::names()));
        }
        if !matrix.driver.iter().any(|row| row.name == *name) {
            return config(format!("matrix {} does not have it", matrix.name));
        }
    }
    let budget_seconds = budget.map_or(matrix.budget, |it| it.as_secs_f64());
    let cells = cells(&matrix, &args.drivers, budget_seconds);
    Ok((matrix, cells))
}
