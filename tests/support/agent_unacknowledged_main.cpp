// Test-only agent that answers writes before the peer has them: the demo run with it must lose records and say so.
#include "agent_main.hpp"

int main(int argc, char** argv) {
    safepair::replica::FolderFaults faults;
    faults.acknowledge_without_peer = true;
    return safepair::agent::agent_main(argc, argv, faults);
}
