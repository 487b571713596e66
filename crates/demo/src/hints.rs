//! What to try while the demo is up.

use crate::world::World;

/// Commands that work as they stand.
pub(crate) fn text(world: &World) -> String {
    let program = world.program().display();
    let masters = world.masters();
    format!(
        "The server is up until Ctrl-C. In another terminal:

  alias forebay='{program} --masters {masters}'
  forebay status
  forebay mount list
  forebay fs ls /warehouse/trips
  forebay fs head /logs/2026/01/31/00/host-0.log
  forebay fs cp /images/train/class-00/00000.ppm .
  forebay fs du /images"
    )
}
