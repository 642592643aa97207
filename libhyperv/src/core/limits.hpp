#pragma once

#include <cstddef>

namespace safepair::hyperv::limits {

/// What is kept of the output of one executable: its beginning and its end.
inline constexpr std::size_t output_head_bytes = 16 * 1024;
inline constexpr std::size_t output_tail_bytes = 48 * 1024;
/// A domain's XML; libvirt's own limit of one message is larger.
inline constexpr std::size_t configuration_bytes_max = 4 * 1024 * 1024;
/// The record beside a state file.
inline constexpr std::size_t save_record_bytes_max = 256 * 1024;
/// What `qemu-img info` may answer about one disk with its backing chain.
inline constexpr std::size_t image_report_bytes_max = 4 * 1024 * 1024;
/// Events of the hypervisor not yet handed out; beyond it the current state is reported instead.
inline constexpr std::size_t events_max = 1024;

}  // namespace safepair::hyperv::limits
