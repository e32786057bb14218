// The process that holds a pod's namespaces; no dependencies.
module podium.dev/testbed/pause

go 1.26
