/// Code that programs and shared objects bring along, so that they run wherever glibc 2.34 is (cmake/portable.cmake):
/// libfmt, which Debian has only as a shared library, and functions of a newer libc.

#include <fmt/format-inl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

FMT_BEGIN_NAMESPACE
namespace detail {

template FMT_API auto dragonbox::to_decimal(float x) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double x) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API locale_ref::locale_ref(const std::locale& loc);
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API void buffer<char>::append(const char*, const char*);
template FMT_API void vformat_to(buffer<char>&, string_view,
                                 basic_format_args<FMT_BUFFER_CONTEXT(type_identity_t<char>)>, locale_ref);

}  // namespace detail
FMT_END_NAMESPACE

/// A variable that archives compiled for programs read; libc has it only since 2.32. 0 says that there may be several
/// threads. Below it stand functions that libc has since 2.35 and 2.36. With these definitions glibc 2.34 is enough.
extern "C" {

__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

__attribute__((visibility("hidden"))) int epoll_pwait2(int fd, epoll_event* events, int events_max,
                                                       const timespec* timeout, const sigset_t* mask) {
  return static_cast<int>(syscall(SYS_epoll_pwait2, fd, events, events_max, timeout, mask, _NSIG / 8));
}

__attribute__((visibility("hidden"))) uint32_t arc4random() {
  uint32_t number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) std::abort();
  return number;
}
}
