package policy

# input.comment.a
allow if {
	input.a.b == "input.x.y"
	not input["a"]["c d"].e
	data["resource-path"][_] == `data.z`
	my.input.q
	input[x].y
}
