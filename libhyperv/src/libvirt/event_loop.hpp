#pragma once

namespace safepair::hyperv {

/// Prepares libvirt for this process, once: a thread that runs its event loop from now on (the
/// embedded driver needs it before the first connection is opened), and no messages on standard
/// error.
void start_libvirt();

}  // namespace safepair::hyperv
