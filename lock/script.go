package lock

// script takes the lock of a host and has it until its input ends or dries up. Its arguments are the lock's file, the
// holder's record, the seconds that it lives without a line of input, what it does when somebody else has the lock (refuse,
// wait or break), and for how many seconds that one may just be ending. It needs a POSIX shell, flock of util-linux and
// timeout of coreutils, which are wherever systemd is. It prints lines:
//
//	held NOW RENEWED SINCE RECORD   somebody else has it; times are seconds of the host's clock, RECORD is theirs
//	taken                           it has the lock
//	renewed                         for each line of input
//	expired                         there was no input for too long
//	broken RECORD                   it was taken away by that one
//
// The lock is an flock(2) on descriptor 9, and whoever has it is the shell: what it starts gets no copy of that descriptor.
// The file goes with its holder. So one who has locked a file has yet to see that it is still the one at the path.
//
// It waits in the background, since a shell hears a signal only after what it runs in the foreground has ended.
const script = `
file=$1 record=$2 expiry=$3 mode=$4 grace=$5
umask 077
child= mine=
say() { printf '%s\n' "$*"; }
ours() { [ "$file" -ef "/proc/$$/fd/9" ]; }
leave() {
  trap '' TERM HUP INT
  if [ -n "$child" ]; then kill "$child" 2>/dev/null; fi
  if [ -z "$mine" ]; then return; fi
  if ours; then skip=2; else skip=1; sleep 0.2; fi # who is about to write
  { while [ $skip -gt 0 ]; do read -r by; skip=$((skip - 1)); done; read -r by && say broken "$by"; } <"$file"
  if ours; then rm -f "$file"; fi
} 2>/dev/null
trap leave EXIT
trap 'exit 1' TERM HUP INT
trap '' PIPE

if ! command -v flock || ! command -v timeout; then
  echo "flock and timeout are needed; hint: install util-linux and coreutils" >&2
  exit 69
fi >/dev/null

unknown=0
while :; do
  exec 9>>"$file"
  if flock -w "$grace" 9; then
    if ours; then break; fi
    continue
  fi
  since= pid= theirs=
  { read -r since pid; read -r theirs; } 2>/dev/null <"$file"
  if [ -z "$theirs" ] && [ $((unknown += 1)) -lt 20 ]; then grace=0.1; continue; fi
  if [ $mode = break ]; then
    if [ "$file" -ef "/proc/$pid/fd/9" ]; then
      printf '%s\n' "$record" >>"$file"
      kill "$pid" 2>/dev/null
      flock -w 3 9 || kill -s KILL "$pid" 2>/dev/null
    else
      rm -f "$file"
    fi
    continue
  fi
  say held "$(date +%s)" "$(stat -c %Y "$file" 2>/dev/null || echo 0)" "${since:-0}" "$theirs"
  if [ $mode = refuse ]; then exit 75; fi
  mode=wait
  flock 9
done

mine=yes
printf '%s %s\n%s\n' "$(date +%s)" $$ "$record" >"$file"
say taken
exec 3<&0
while :; do
  timeout --foreground "$expiry" sh -c 'read -r line' <&3 9>&- &
  child=$!
  wait $child
  ended=$?
  child=
  if [ $ended = 124 ]; then say expired; fi
  if [ $ended != 0 ] || ! ours; then exit; fi
  touch "$file"
  say renewed || exit
done
`
