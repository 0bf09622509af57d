//! What an author does with packages, without a service.

use super::Ended;
use super::args::Pack;
use super::problem::Problem;
use super::render::Screen;
use super::verbs::answer;
use crate::failure::Failure;
use crate::{manifest, package};

pub(super) fn pack(screen: &mut Screen, arguments: &Pack) -> Result<(), Ended> {
    let Some(directory) = &arguments.directory else {
        screen.raw(manifest::SCHEMA.as_bytes())?;
        return Ok(screen.flush()?);
    };
    let packed = package::pack(directory, arguments.output.as_deref()).map_err(Problem::from)?;
    let reply =
        serde_json::to_value(&packed).map_err(|error| Problem::from(Failure::internal(error)))?;
    answer(screen, &reply, |screen| {
        let package = packed.package.display();
        screen.line(&format!(
            "{package} has {} files of {} bytes in {} bytes",
            packed.files, packed.content_bytes, packed.bytes
        ))?;
        screen.line(&format!("sha256 {}", packed.sha256))?;
        screen.line(&format!("`bulkhead sign {package}` signs it"))
    })
}
