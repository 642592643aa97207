#pragma once

#include <safepair/replica/replicated_folder.hpp>

namespace safepair::agent {

/// main of safe-agent; `faults` is empty in the shipped program.
int agent_main(int argc, char** argv, const replica::FolderFaults& faults);

}  // namespace safepair::agent
