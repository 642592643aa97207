#pragma once

#include "config_reader.hpp"

/// Fields that cluster.yaml and the module files have in common.
namespace safepair::agent {

/// `heartbeat: {pulse, timeout}`; what is not given keeps its value.
void read_heartbeat(yaml::Section& section,
                    base::Duration& pulse,
                    base::Duration& timeout,
                    yaml::Mistakes& mistakes);

}  // namespace safepair::agent
