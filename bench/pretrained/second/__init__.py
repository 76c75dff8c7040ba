"""The pre-trained student's second protocol: tasks it can learn, tuned SFT, fresh seeds; see README.md."""
