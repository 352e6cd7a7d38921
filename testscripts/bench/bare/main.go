// Bare is a program that does nothing. It shows how long any Go program takes to start.
package main

func main() {}
