//! Which matrix, drivers and directory a verb works on.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::driver::command::{self, Definition};
use crate::error::{BenchError, BenchErrorKind, Result};
use crate::matrix::expand::{PlannedCell, cells};
use crate::matrix::{Matrix, estimate, overrides};
use crate::{driver, suggest};

/// What to measure, and where.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// default, quick, full, claims, gate, operations, peers, ratios, transports, workloads, or the path of a .toml file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    pub matrix: String,

    /// A file that describes more drivers, as docs/ADD_A_DRIVER.md says; all of them are measured too.
    #[arg(long = "drivers", value_name = "FILE")]
    pub described: Option<PathBuf>,
    /// Change a key of the matrix, such as budget=30s, group.0.files=8 or driver.*.options=default.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Only this driver; may be given several times.
    #[arg(long = "driver", value_name = "NAME", value_delimiter = ',')]
    pub drivers: Vec<String>,

    /// Directory for layers and branches; decides the file system of the backing `dir`.
    #[arg(long, value_name = "DIR", default_value = "target/bench/scratch")]
    pub backing: PathBuf,
}

/// Makes `definitions` drivers of this process.
///
/// # Errors
///
/// `Config`: one of them has the name of another driver.
pub fn register(definitions: &[Definition]) -> Result<()> {
    definitions.iter().try_for_each(|it| {
        let config = |what| BenchError::new("describe driver", &it.name, BenchErrorKind::Config(what));
        command::register(it).map_err(config)
    })
}

/// The matrix and its cells, less the drivers that are not wanted.
///
/// # Errors
///
/// `Config`: no such matrix, or a driver that is not in it.
pub fn planned(args: &MatrixArgs, budget: Option<Duration>) -> Result<(Matrix, Vec<PlannedCell>)> {
    let mut matrix = resolved(args)?;
    if let Some(budget) = budget {
        matrix.budget = budget.as_secs_f64();
    }
    let cells = cells_of(&matrix)?;
    Ok((matrix, cells))
}

/// The matrix with what `--set` and `--driver` change.
///
/// # Errors
///
/// `Config`: no such matrix, a wrong assignment, or a driver that is not in it.
pub fn resolved(args: &MatrixArgs) -> Result<Matrix> {
    let described = args.described.as_deref().map_or(Ok(Vec::new()), command::load)?;
    register(&described)?;
    let mut matrix = Matrix::load(&args.matrix)?;
    register(&matrix.command)?;
    matrix.add_rows(&described);
    // The printed and recorded matrix stands for itself, without the file.
    let known = |it: &Definition| matrix.command.iter().any(|own| own.name == it.name);
    let more: Vec<Definition> = described.into_iter().filter(|it| !known(it)).collect();
    matrix.command.extend(more);
    let mut matrix = overrides::apply(matrix, &args.set)?;
    for name in &args.drivers {
        let config = |message| Err(BenchError::new("choose driver", name, BenchErrorKind::Config(message)));
        if driver::by_name(name).is_none() {
            return config(suggest::unknown("driver", name, &driver::names()));
        }
        if !matrix.driver.iter().any(|row| row.name == *name) {
            return config(format!("matrix {} does not have it", matrix.name));
        }
    }
    matrix.restrict(&args.drivers);
    Ok(matrix)
}

/// All cells of `matrix` within its own budget.
///
/// # Errors
///
/// `Config`: there are more than can be counted.
pub fn cells_of(matrix: &Matrix) -> Result<Vec<PlannedCell>> {
    let config = |message| BenchError::new("expand matrix", &matrix.name, BenchErrorKind::Config(message));
    estimate::check_product(matrix).map_err(config)?;
    Ok(cells(matrix, &[], matrix.budget))
}
