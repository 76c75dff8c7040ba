"""Marks that end a turn or begin the next one, as engines leave them in texts, of every family."""

_OF = "end[_▁]?of[_▁]?(?:text|turn|sentence|utterance|message|role|document|response)(?:_token)?"
_NAMED = rf"(?:(?:im|hy|role|turn|message|assistant)[_:])?(?:end|eo[a-z](?:_id)?|stop)|{_OF}|return|separator"
_WHO = "(?:hy_)?(?:user|human|prompter|system|developer|assistant|bot|observation)(?:prompt)?(?:_start|_end)?"
# Of every family; never the tags of a thought or of an answer.
ENDS = (
    rf"<[|｜](?:{_NAMED})[|｜]>|\[\|(?:{_NAMED})\|\]|<(?:{_OF}|eo[a-z]|\w{{1,20}}:eo[st])>"
    r"|<turn\|>|\[e~\[|</(?:\w{1,12}_)?s>|\[eo[st]\]"
)
_BEGINS = (
    rf"<[|｜](?:im[_:](?:start|sep|middle)|start_header_id|header_start|start_of_(?:role|turn)|startoftext|call|{_WHO}"
    rf"|begin[_▁]of[_▁](?:text|sentence))[|｜]>|\[\|(?:{_WHO})\|\]|<start_of_turn>|<\|turn>|<\w{{1,20}}:bos>|\[INST\]"
    r"|<\|start\|>(?=user|system|developer)|<\|/(?:assistant|message)\|>"
    # of the numbered ones of a vocabulary, all but those around a thought
    r"|<(?:reserved|extra_id|special)_\d{1,3}>|\[unused(?:_token_)?(?!1[67]\])\d{1,3}\]"
)
MARK = rf"(?i:{ENDS}|{_BEGINS})"
