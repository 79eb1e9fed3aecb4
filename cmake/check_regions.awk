# awk -f check_regions.awk <headers of include/pqkv/isa>: what regions of more instructions (isa/target.hpp) may hold, which is
# kernels of one instruction set and nothing else. A function in a region that other code calls would end programs on CPUs
# without these instructions. Prints a line per fault and exits with 1 if there is one.
function fault(message) {
  file = FILENAME
  sub(/.*\/pqkv\//, "include/pqkv/", file)
  print file ":" FNR ": " message
  faults = 1
}
FNR == 1 {
  if (open) print "the last region before " FILENAME " is not closed"
  faults = faults || open
  open = 0
  set_name = FILENAME
  sub(/.*\//, "", set_name)
  sub(/\.hpp$/, "", set_name)
  sub(/_.*/, "", set_name)
}
{
  code = $0
  sub(/\/\/.*/, "", code)
}
set_name == "target" { next }  # where the macros are defined
code ~ /PQKV_TARGET_BEGIN/ {
  if (open) fault("a region inside a region")
  open = 1
  next
}
code ~ /PQKV_TARGET_END/ {
  if (!open) fault("the end of a region that was not begun")
  open = 0
  next
}
open && code ~ /#[ \t]*include/ { fault("a region must not include") }
open && code ~ /KernelSet/ { fault("tables of kernels stand outside of regions") }
open && code ~ /using[ \t]+namespace/ { fault("a region must not use a namespace") }
open && code ~ /^[ \t]*(inline[ \t]+)?namespace/ && code !~ ("^namespace pqkv::inline PQKV_ABI::isa::" set_name " \\{$") {
  fault("a region holds the namespace of its file's set (isa::" set_name ") and no other")
}
open && code ~ /^(inline |static |extern )*(const |volatile )?[A-Za-z_:<>0-9]+(\*|&)? [a-z_0-9]+(\[.*\])? *(=|\{|;)/ && code !~ /constexpr|^(struct|class|using|enum|namespace|template|return)/ {
  fault("variables of a region are constexpr: others may be initialised before the CPU was asked")
}
!open && set_name != "neon" && code ~ /(^|[^A-Za-z_0-9])(_mm[0-9]*_|__m(128|256|512))/ { fault("intrinsics stand inside a region") }
END {
  if (open) fault("the region is not closed")
  exit faults
}
