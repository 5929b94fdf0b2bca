# Completion of adit-client for bash: goes to /usr/share/bash-completion/completions/adit-client.

_adit_client() {
  local commands="run up down status doctor genkey genpsk pubkey import"
  local running="--config --check --gateway --peer-public-key --private-key --preshared-key
    --address --route --protection --stock-wireguard --listen-port --lanes --mtu --log-level
    --device --socket --help --version"
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" each
  for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ " $commands " == *" $each "* ]] && command=$each && break
  done
  COMPREPLY=()
  case $before in
    --config | --private-key | --preshared-key | --socket) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    --to) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    --protection)
      mapfile -t COMPREPLY < <(compgen -W "aes-256-gcm chacha20-poly1305 plain" -- "$word") ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "debug info warning error" -- "$word") ;;
    --gateway | --peer-public-key | --address | --route | --listen-port | --lanes | --mtu | --device) ;;
    *)
      case $command in
        "") each="$commands $running" ;;
        status) each="--config --device --socket --json --help" ;;
        down) each="--config --device --socket --help" ;;
        genkey | genpsk | pubkey) each="--help" ;;
        import)
          each="--to --help"
          mapfile -t COMPREPLY < <(compgen -f -X '!*.conf' -- "$word")
          ;;
        *) each=$running ;;
      esac
      mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$each" -- "$word")
      ;;
  esac
}

complete -o filenames -F _adit_client adit-client
