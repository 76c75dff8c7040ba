"""Marks that end a turn, as engines leave them in texts, of every family."""

_OF = "end[_▁]?of[_▁]?(?:text|turn|sentence|utterance|message|role|document)(?:_token)?"
# Of every family; never the tags of a thought or of an answer.
ENDS = (
    rf"<[|｜](?:im_end|{_OF}|eo[tmsadu](?:_id)?|end|return|role_end)[|｜]>|<(?:{_OF}|eo[tmsdp])>"
    r"|<turn\|>|\[e~\[|</s>|\[EOS\]"
)
MARK = (
    rf"(?i:{ENDS}|<[|｜](?:im_start|im_sep|start_header_id|call|user|observation)[|｜]>|<\|/(?:assistant|message)\|>)"
)
