//! A data root with images, whose containers and mounts go with it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use aufs_storage::container::ContainerStore;
use aufs_storage::driver::{Driver, DriverOptions, Removal};
use aufs_storage::image::LoadOptions;
use aufs_testkit::layers::{archive, docker_save};
use serde_json::json;

use crate::Plan;

/// See the module.
#[derive(Debug)]
pub struct Store {
    /// Where all of it lies.
    pub root: PathBuf,
    driver: Driver,
}

impl Store {
    /// Makes a data root.
    pub fn new(plan: &Plan, name: &str) -> anyhow::Result<Self> {
        let root = plan.scratch.path().join(name);
        let options = DriverOptions { program: Some(plan.aufs.clone()), ..DriverOptions::default() };
        let driver = Driver::open(&root, options)?;
        Ok(Self { root, driver })
    }

    /// The containers of it.
    pub fn containers(&self) -> anyhow::Result<ContainerStore<'_>> {
        Ok(ContainerStore::open(&self.driver)?)
    }

    /// Loads an image of so many layers: the lowest has a shell, each other a file of its own.
    pub fn add_image(&self, plan: &Plan, layers: usize) -> anyhow::Result<String> {
        let mut made = vec![base(plan)?];
        for at in 1..layers {
            made.push(archive(&[(&format!("layer-{at}"), "of this layer")]));
        }
        self.add(plan, &format!("layers-{layers}:1"), &made)
    }

    /// Loads an image that has a shell, and files of these lengths in a layer above.
    pub fn add_image_with(&self, plan: &Plan, name: &str, files: &[(&str, usize)]) -> anyhow::Result<String> {
        let texts: Vec<String> = files.iter().map(|(_, len_bytes)| "x".repeat(*len_bytes)).collect();
        let files: Vec<(&str, &str)> =
            files.iter().zip(&texts).map(|((path, _), text)| (*path, text.as_str())).collect();
        self.add(plan, name, &[base(plan)?, archive(&files)])
    }

    fn add(&self, plan: &Plan, name: &str, layers: &[Vec<u8>]) -> anyhow::Result<String> {
        let dir = plan.scratch.path().join("image");
        docker_save(&dir, name, &json!({}), layers);
        self.containers()?.images().load(&dir, &LoadOptions::default(), &())?;
        std::fs::remove_dir_all(&dir)?;
        Ok(name.to_owned())
    }

    /// The directories of an image's layers, topmost first.
    pub fn branches(&self, image: &str) -> anyhow::Result<Vec<PathBuf>> {
        let layers = self.containers()?.images().inspect(image)?.layers;
        let home = self.driver.home().join("diff");
        Ok(layers.iter().rev().map(|it| home.join(&it.layer)).collect())
    }
}

impl Drop for Store {
    /// Also after an error nothing stays mounted.
    fn drop(&mut self) {
        let ended = self.containers().and_then(|containers| {
            for info in containers.list()? {
                containers.remove(info.container.id.as_str(), Removal::Force)?;
            }
            Ok(self.driver.cleanup()?)
        });
        if let Err(error) = ended {
            crate::complain(&format!("figures: {error:#}"));
        }
    }
}

/// A layer that has busybox alone.
fn base(plan: &Plan) -> anyhow::Result<Vec<u8>> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|it| Path::new(it).exists());
    let busybox = found.context("needs busybox (Debian: busybox-static)")?;
    let dir = plan.scratch.path().join("base");
    std::fs::create_dir_all(dir.join("bin"))?;
    std::fs::copy(busybox, dir.join("bin/busybox"))?;
    let packed = std::process::Command::new("tar").arg("-C").arg(&dir).args(["-cf", "-", "bin"]).output();
    Ok(packed.context("tar")?.stdout)
}
