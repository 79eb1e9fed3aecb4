# awk -f stray.awk, of what objdump -d -w --insn-width=15 prints: a line for each function outside the instruction sets'
# namespaces that holds a VEX or EVEX instruction, and how many functions of each set do. VEX begins with c4 or c5 in
# 64-bit code, EVEX with 62, behind prefixes of segment or address size; mnemonics would be a longer list.
BEGIN { FS = "\t" }
/^[0-9a-f]+ <.*>:$/ {
  name = $0
  sub(/^[0-9a-f]+ </, "", name)
  sub(/>:$/, "", name)
  next
}
$2 ~ /^((26|2e|36|3e|64|65|67) )*(c4|c5|62) / && !(name in seen) {
  seen[name] = 1
  # Functions, member functions, and what is local to them: lambdas.
  if (match(name, /^_Z+NK?4pqkv[0-9]+v[0-9a-z_]*3isa(4avx2|6avx512|10avx512vbmi)/)) {
    set = substr(name, RSTART, RLENGTH)
    sub(/.*3isa[0-9]+/, "", set)
    ++found[set]
  } else {
    print "stray: " name " holds " $3
  }
}
END { printf "seen: avx2 %d, avx512 %d, avx512vbmi %d\n", found["avx2"], found["avx512"], found["avx512vbmi"] }
