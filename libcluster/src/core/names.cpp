#include <safepair/cluster/action.hpp>
#include <safepair/cluster/status.hpp>

namespace safepair::cluster {

const char* to_string(Role role) noexcept {
    switch (role) {
        case Role::stop:
            return "STOP";
        case Role::wait:
            return "WAIT";
        case Role::alone:
            return "ALONE";
        case Role::prim:
            return "PRIM";
        case Role::second:
            return "SECOND";
    }
    return "?";
}

const char* to_string(Readiness readiness) noexcept {
    switch (readiness) {
        case Readiness::not_ready:
            return "NotReady";
        case Readiness::transient:
            return "Transient";
        case Readiness::ready:
            return "Ready";
    }
    return "?";
}

const char* to_string(Reason reason) noexcept {
    switch (reason) {
        case Reason::none:
            return "none";
        case Reason::operator_command:
            return "operator-command";
        case Reason::not_up_to_date:
            return "not-up-to-date";
        case Reason::first_start:
            return "first-start";
        case Reason::peer_absent:
            return "peer-absent";
        case Reason::newest_data:
            return "newest-data";
        case Reason::peer_leads:
            return "peer-leads";
        case Reason::peer_silent:
            return "peer-silent";
        case Reason::peer_stopped:
            return "peer-stopped";
        case Reason::peer_restarted:
            return "peer-restarted";
        case Reason::handed_over:
            return "handed-over";
        case Reason::peer_in_sync:
            return "peer-in-sync";
        case Reason::channel_lost:
            return "channel-lost";
        case Reason::resync_interrupted:
            return "resync-interrupted";
        case Reason::split_brain_winner:
            return "split-brain-winner";
        case Reason::split_brain_loser:
            return "split-brain-loser";
        case Reason::superseded:
            return "superseded";
        case Reason::overslept:
            return "overslept";
        case Reason::unrelated_data:
            return "unrelated-data";
        case Reason::inconsistent_data:
            return "inconsistent-data";
        case Reason::folder_not_recognised:
            return "folder-not-recognised";
        case Reason::folder_busy:
            return "folder-busy";
        case Reason::archive_failed:
            return "archive-failed";
        case Reason::storage_failed:
            return "storage-failed";
        case Reason::service_failed:
            return "service-failed";
        case Reason::service_exited:
            return "service-exited";
        case Reason::lineage_failed:
            return "lineage-failed";
        case Reason::failover_off:
            return "failover-off";
        case Reason::excluded:
            return "excluded";
        case Reason::settings_differ:
            return "settings-differ";
        case Reason::refused:
            return "refused";
        case Reason::peer_follows:
            return "peer-follows";
    }
    return "?";
}

}  // namespace safepair::cluster
